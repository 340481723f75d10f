//! What a figure was measured on: processor, kernel, memory, disk and load.
//!
//! It must never fail: what the system does not tell is "unknown".

use std::path::Path;

/// Processor model and number of cores.
pub fn processor() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("unknown processor", |(_, name)| name.trim());
    format!("{cores} x {model}")
}

/// Name and release of the kernel.
pub fn kernel() -> String {
    let name = rustix::system::uname();
    format!("{} {}", name.sysname().to_string_lossy(), name.release().to_string_lossy())
}

/// Main memory in words.
pub fn memory() -> String {
    let info = read("/proc/meminfo");
    let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next());
    match total.and_then(|kib| kib.parse::<f64>().ok()) {
        Some(kib) => format!("{:.1} GiB", kib / 1_048_576.0),
        None => "unknown".to_string(),
    }
}

/// File system and device that hold a path.
pub fn disk(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let mounts = read("/proc/self/mounts");
    let mounts = mounts.lines().filter_map(|line| {
        let mut parts = line.split(' ');
        Some((parts.next()?, Path::new(parts.next()?), parts.next()?))
    });
    let holding = mounts.filter(|(_, place, _)| path.starts_with(place));
    match holding.max_by_key(|(_, place, _)| place.as_os_str().len()) {
        Some((device, _, kind)) => format!("{kind} on {device}{}", model(device)),
        None => "unknown".to_string(),
    }
}

/// The model of a block device, in parentheses.
fn model(device: &str) -> String {
    let name = device.rsplit('/').next().unwrap_or_default();
    let whole = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let models =
        [name, whole, whole.trim_end_matches('p')].map(|name| read(&format!("/sys/block/{name}/device/model")));
    models.iter().map(|model| model.trim()).find(|model| !model.is_empty()).map_or(String::new(), |m| format!(" ({m})"))
}

/// How many tasks wanted a core in the last minute, on average; before a measurement it should be near zero.
pub fn load() -> String {
    read("/proc/loadavg").split(' ').next().filter(|load| !load.is_empty()).unwrap_or("unknown").to_string()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn the_machine_says_what_it_is() {
        assert!(processor().contains(" x "), "{}", processor());
        assert!(kernel().starts_with("Linux "), "{}", kernel());
        assert!(memory().ends_with(" GiB"), "{}", memory());
        assert!(disk(Path::new("/proc/self")).starts_with("proc on "), "{}", disk(Path::new("/proc/self")));
        assert!(load().parse::<f64>().is_ok(), "{}", load());
    }
}
