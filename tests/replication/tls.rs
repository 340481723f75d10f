//! `wss://` with certificates of our own.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};

use super::scene::{Home, file, notes, texts};

/// A proxy that ends TLS in front of a relay, for one connection at a time. Returns its port.
fn proxy(to: SocketAddr) -> u16 {
    let certificates = CertificateDer::pem_file_iter(file("localhost.pem")).expect("a file").map(Result::unwrap);
    let key = PrivateKeyDer::from_pem_file(file("localhost.key")).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_no_client_auth()
        .with_single_cert(certificates.collect(), key)
        .expect("they belong together");
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (outside, inside) =
                (stream.expect("a connection"), TcpStream::connect(to).expect("the relay is there"));
            let connection = ServerConnection::new(Arc::clone(&config)).expect("a good configuration");
            relay(connection, outside, inside);
        }
    });
    port
}

/// Passes bytes both ways until one side ends.
fn relay(mut connection: ServerConnection, mut outside: TcpStream, mut inside: TcpStream) {
    use std::io::{ErrorKind, Read as _, Write as _};
    let short = Some(std::time::Duration::from_millis(1));
    outside.set_read_timeout(short).expect("a timeout");
    inside.set_read_timeout(short).expect("a timeout");
    let is_idle = |error: &std::io::Error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
    let mut bytes = vec![0; 64 << 10];
    loop {
        while connection.wants_write() {
            if connection.write_tls(&mut outside).is_err() {
                return;
            }
        }
        match connection.read_tls(&mut outside) {
            Ok(0) => return,
            Ok(_) if connection.process_new_packets().is_err() => {
                // The alert that says why.
                let _ = connection.write_tls(&mut outside);
                return;
            }
            Ok(_) => {}
            Err(error) if is_idle(&error) => {}
            Err(_) => return,
        }
        while let Ok(count) = connection.reader().read(&mut bytes) {
            if count == 0 || inside.write_all(&bytes[..count]).is_err() {
                return;
            }
        }
        match inside.read(&mut bytes) {
            Ok(0) => return,
            Ok(count) => connection.writer().write_all(&bytes[..count]).expect("memory"),
            Err(error) if is_idle(&error) => {}
            Err(_) => return,
        }
    }
}

#[test]
fn a_certificate_is_accepted_if_its_root_is_trusted_and_its_name_is_right() {
    let events = notes("a", 0..600);
    let (here, there) = (Home::with(&[]), Home::with(&events));
    let server = there.serve("");
    let port = proxy(server.address);
    let (ca, url) = (file("ca.pem"), format!("wss://localhost:{port}"));
    here.sync(&url, &["--ca", &file("localhost.key")]).failed("it holds no certificate in PEM");
    here.sync(&url, &["--ca", "/nowhere.pem"]).failed("cannot read certificates from /nowhere.pem");
    // Without --ca there may be no root at all, and never the right one.
    let ran = here.sync(&url, &[]);
    assert!(ran.code == Some(1) && (ran.err.contains("UnknownIssuer") || ran.err.contains("root cert")), "{ran:?}");
    here.sync(&url, &["--ca", &ca]).good();
    assert_eq!(here.export(), texts(&events));
    here.sync(&format!("wss://127.0.0.2:{port}"), &["--ca", &ca, "--timeout", "5"]).failed("cannot connect");
}
