//! Servers of NATS behind proxies that can hold what travels. Several of them are one cluster.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use super::nats::{Nats, free_port};
use crate::support::relay::TIMEOUT;
use crate::support::wire::Signed;

/// Where nobody listens: what one server of NATS tells the others about a third leads nowhere.
const NOWHERE: &str = "127.0.0.1:9";

/// Whether a proxy forwards.
#[derive(Default)]
struct Gate {
    is_held: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    fn hold(&self, is_held: bool) {
        *self.is_held.lock().expect("nobody panicked") = is_held;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let held = self.is_held.lock().expect("nobody panicked");
        drop(self.changed.wait_while(held, |is_held| *is_held).expect("nobody panicked"));
    }
}

/// Forwards connections. While it is held, nothing passes in either direction, and no connection ends: as in a network
/// that is cut.
struct Proxy {
    address: SocketAddr,
    gate: Arc<Gate>,
}

impl Proxy {
    fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let (address, gate) = (listener.local_addr().expect("an address"), Arc::<Gate>::default());
        let passing = Arc::clone(&gate);
        // It ends with the tests.
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // Where nobody listens, the client learns it.
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                let ends = || (client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
                let ((from, to), (back_to, back_from)) = (ends(), ends());
                for (from, to) in [(from, to), (back_from, back_to)] {
                    let gate = Arc::clone(&passing);
                    std::thread::spawn(move || forward(from, to, &gate));
                }
            }
        });
        Self { address, gate }
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, gate: &Gate) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        gate.pass();
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    gate.pass();
    // One of them may be closed already.
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

/// See the module.
pub struct Servers {
    servers: Vec<Nats>,
    clients: Vec<Proxy>,
    /// The ways from one server to another.
    routes: Vec<(usize, usize, Proxy)>,
}

impl Servers {
    /// Starts so many servers; `None` where there are none to test with and `WEIR_REQUIRE` does not demand them.
    #[track_caller]
    pub fn start(count: usize) -> Option<Self> {
        let ports: Vec<(u16, u16)> = (0..count).map(|_| (free_port(), free_port())).collect();
        let pairs = (0..count).flat_map(|from| (0..count).map(move |to| (from, to))).filter(|(from, to)| from != to);
        let routes: Vec<(usize, usize, Proxy)> = pairs.map(|(from, to)| (from, to, Proxy::to(ports[to].1))).collect();
        let mut servers = Vec::new();
        for (number, (port, routed)) in ports.iter().enumerate() {
            let ways = routes.iter().filter(|(from, ..)| *from == number);
            let ways: Vec<String> = ways.map(|(.., proxy)| format!("\"nats://{}\"", proxy.address)).collect();
            let cluster = format!(
                "server_name: s{number}\ncluster {{ name: test, listen: \"127.0.0.1:{routed}\", no_advertise: true, \
                 advertise: \"{NOWHERE}\", routes: [{}] }}",
                ways.join(", ")
            );
            servers.push(Nats::prepare(*port, if count > 1 { &cluster } else { "" })?);
        }
        servers.iter_mut().for_each(Nats::run);
        let clients = ports.iter().map(|(port, _)| Proxy::to(*port)).collect();
        Some(Self { servers, clients, routes })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.servers.len()
    }

    /// Where nodes find them.
    pub fn urls(&self) -> Vec<String> {
        self.clients.iter().map(|proxy| format!("nats://{}", proxy.address)).collect()
    }

    /// One of them.
    pub fn server(&mut self, number: usize) -> &mut Nats {
        &mut self.servers[number]
    }

    /// Loses everything that all of them have stored.
    pub fn wipe_all(&mut self) {
        self.servers.iter_mut().for_each(Nats::wipe);
        self.servers.iter_mut().for_each(Nats::run);
    }

    /// Cuts a server off from the others, or mends that.
    pub fn hold_routes(&self, number: usize, is_held: bool) {
        let ends = self.routes.iter().filter(|(from, to, _)| [from, to].contains(&&number));
        ends.for_each(|(.., proxy)| proxy.gate.hold(is_held));
    }

    /// Cuts a server off from the nodes, or mends that.
    pub fn hold_clients(&self, number: usize, is_held: bool) {
        self.clients[number].gate.hold(is_held);
    }
}

/// Publishes events to the stream twice, the latest first, as nobody in particular. A server that is gone gets none.
pub fn publish_again(url: &str, events: &[Signed]) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(url.trim_start_matches("nats://"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut text = String::from("CONNECT {\"verbose\":false,\"pedantic\":false}\r\n");
    for event in events.iter().rev().flat_map(|event| [event, event]) {
        text += &format!("PUB weir.main.ev.1 {}\r\n{}\r\n", event.text.len(), event.text);
    }
    stream.write_all(format!("{text}PING\r\n").as_bytes())?;
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    lines.take_while(|line| line != "PONG").for_each(drop);
    Ok(())
}
