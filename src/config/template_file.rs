//! Reads the operator's own page for browsers, and checks its placeholders.

use std::path::Path;

use super::error::Fault;
use crate::pages::Template;
use crate::policy::info::TemplateFile;

const KEY: &str = "info.template_file";

/// Reads the file, if there is one. A relative path is resolved against `directory`.
pub fn read(file: &mut TemplateFile, directory: &Path) -> Option<Fault> {
    if file.path.is_empty() {
        return None;
    }
    let path = directory.join(&file.path);
    let fault = |text: String| Some(Fault { key: KEY.into(), text: format!("{}:{text}", path.display()) });
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => return fault(format!(" {error}")),
    };
    if let Err(error) = Template::parse(&text) {
        return fault(error.to_string());
    }
    file.text = text.into();
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_page_is_read_and_its_faults_are_told_by_file_and_line() {
        let home = tempfile::tempdir().expect("a directory");
        let (config, page) = (home.path().join("weir.toml"), home.path().join("page.html"));
        let read = || Config::parse(&config.to_string_lossy(), "info.template_file = \"page.html\"");
        let told = || read().expect_err("a fault").to_string();
        let start = format!("{}:1:6: {KEY}: {}:", config.display(), page.display());
        assert!(told().starts_with(&format!("{start} No such file")), "{}", told());
        std::fs::write(&page, "<h1>{{name}}</h1>\n{{nmae}}").expect("a file");
        assert!(told().starts_with(&format!("{start}2: {{{{nmae}}}} is not a placeholder; there are")), "{}", told());
        std::fs::write(&page, [b'a', 0xff]).expect("a file");
        assert!(told().starts_with(&format!("{start} stream did not contain valid UTF-8")), "{}", told());
        std::fs::write(&page, "<h1>{{name}}</h1>").expect("a file");
        let first = read().expect("a page");
        assert_eq!(&*first.info.template_file.text, "<h1>{{name}}</h1>");
        std::fs::write(&page, "<h2>{{name}}</h2>").expect("a file");
        assert_eq!(first.changes(&read().expect("a page")).live, ["info"], "a reload shows another page");
    }
}
