//! The router is killed in a storm, the other relay too: each event ends once in both stores.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::scene::{Router, fresh, stream_to, until_holds};
use crate::replication::scene::Home;
use crate::support::wire::Signed;

/// An address that stays, in front of a relay that comes back at another one.
struct Door {
    url: String,
    behind: Arc<Mutex<SocketAddr>>,
}

impl Door {
    fn before(address: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("ws://{}", listener.local_addr().expect("an address"));
        let behind = Arc::new(Mutex::new(address));
        let target = Arc::clone(&behind);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let address = *target.lock().unwrap_or_else(PoisonError::into_inner);
                // A relay that is away closes the door.
                if let Ok(other) = TcpStream::connect(address) {
                    Self::join(&stream, &other);
                }
            }
        });
        Self { url, behind }
    }

    fn join(one: &TcpStream, two: &TcpStream) {
        for (from, to) in [(one, two), (two, one)] {
            let (mut from, mut to) = (from.try_clone().expect("a handle"), to.try_clone().expect("a handle"));
            std::thread::spawn(move || {
                // The end of either side is that of both.
                let _ = std::io::copy(&mut from, &mut to).and_then(|_| to.flush());
                let _ = (from.shutdown(std::net::Shutdown::Both), to.shutdown(std::net::Shutdown::Both));
            });
        }
    }

    fn lead_to(&self, address: SocketAddr) {
        *self.behind.lock().unwrap_or_else(PoisonError::into_inner) = address;
    }
}

#[test]
fn killed_again_and_again_in_a_storm_each_event_ends_once_on_both_sides() {
    let kills: u64 = std::env::var("WEIR_ROUTER_KILLS").map_or(10, |kills| kills.parse().expect("a number"));
    let (here, there) = (Home::with(&[]), Home::with(&[]));
    let ours = here.serve("");
    let mut theirs = there.serve("");
    let door = Door::before(theirs.address);
    let streams = stream_to("peer", "both", &door.url);
    let mut published: Vec<Signed> = Vec::new();
    for round in 0..kills {
        let router = Router::start(&here, &streams);
        for part in 0..4 {
            let numbers = round * 1_000 + part * 20..round * 1_000 + part * 20 + 20;
            let (mine, yours) = (fresh("mine", numbers.clone()), fresh("yours", numbers));
            ours.connect().publish_all(&mine);
            theirs.connect().publish_all(&yours);
            published.extend(mine.into_iter().chain(yours));
            // The clock decides when, since any instant must do.
            std::thread::sleep(Duration::from_millis(round * 37 % 250));
        }
        if round % 3 == 1 {
            // The other relay, while the router runs: what it acknowledged is there when it is back.
            drop(theirs);
            theirs = there.serve("");
            door.lead_to(theirs.address);
            std::thread::sleep(Duration::from_millis(round * 53 % 400));
        }
        // Killed without warning.
        drop(router);
    }
    let router = Router::start(&here, &streams);
    until_holds(&here, &published, &router);
    until_holds(&there, &published, &router);
    router.stop();
    here.assert_clean();
    there.assert_clean();
}
