//! Runs over connections that are compressed, authenticated or secure.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::tests::{BURST, FANOUT, PUBLISH, QUERY, faults_of, names, options};
use super::{Options, run};
use crate::fake_relay::{Fault, start};
use crate::wire::connect;

fn run_with(url: String, connect: connect::Options) -> crate::report::Report {
    let options = options(url, &format!("{PUBLISH}{QUERY}{FANOUT}{BURST}"));
    run(&Options { connect, ..options }).expect("the run can be made")
}

#[test]
fn compressed_messages_carry_the_same_and_take_fewer_bytes() {
    let connect = connect::Options { deflate: true, ..connect::Options::default() };
    let compressed = run_with(start(Fault::Deflate), connect.clone());
    let declined = run_with(start(Fault::None), connect);
    let plain = run_with(start(Fault::Deflate), connect::Options::default());
    let all = [(&compressed, "permessage-deflate"), (&declined, "permessage-deflate declined"), (&plain, "plain")];
    for (report, manner) in all {
        assert_eq!(report.connection, manner);
        assert_eq!(faults_of(report), names(&[]), "{manner}: {:?}", report.phases);
    }
    let bytes = |report: &crate::report::Report| (report.phases[0].sent_bytes, report.phases[1].received_bytes);
    let ((sent, received), (all_sent, all_received)) = (bytes(&compressed), bytes(&plain));
    assert!(sent < all_sent * 9 / 10 && received < all_received * 9 / 10, "{sent} of {all_sent}, {received}");
}

#[test]
fn a_relay_that_asks_for_a_key_is_given_one() {
    let file = std::env::temp_dir().join(format!("loadtest-key-{}", std::process::id()));
    std::fs::write(&file, format!("{}\n", "07".repeat(32))).expect("a temporary file");
    let auth = connect::Options { auth: Some(file.clone()), ..connect::Options::default() };
    let report = run_with(start(Fault::Authenticate), auth);
    std::fs::remove_file(&file).expect("the same file");
    assert_eq!((faults_of(&report), report.connection.as_str()), (names(&[]), "authenticated"));
    // Without a key nothing works, and that is a fault, as the relay does not say so in its document.
    let refused = run_with(start(Fault::Authenticate), connect::Options::default());
    assert!(faults_of(&refused).contains("refused_event"), "{refused:?}");
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tls")).join(name)
}

/// Accepts TLS for the relay at `url`, and returns the port.
fn secure(url: &str) -> u16 {
    let relay: SocketAddr = url.trim_start_matches("ws://").parse().expect("an address");
    let chain = CertificateDer::pem_file_iter(fixture("certificate.pem")).expect("a file");
    let chain = chain.collect::<Result<Vec<_>, _>>().expect("certificates");
    let key = PrivateKeyDer::from_pem_file(fixture("key.pem")).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
    let acceptor = TlsAcceptor::from(Arc::new(config.with_single_cert(chain, key).expect("they belong together")));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("a bound socket").port();
    listener.set_nonblocking(true).expect("a socket");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
            while let Ok((outer, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // A client that does not trust the certificate hangs up.
                    let Ok(mut outer) = acceptor.accept(outer).await else { return };
                    let mut inner = tokio::net::TcpStream::connect(relay).await.expect("the relay listens");
                    let _ = tokio::io::copy_bidirectional(&mut outer, &mut inner).await;
                });
            }
        });
    });
    port
}

#[test]
fn a_secure_relay_is_measured_like_any_other_if_its_certificate_is_trusted() {
    let port = secure(&start(Fault::None));
    let trusting = connect::Options { authorities: Some(fixture("certificate.pem")), ..connect::Options::default() };
    let report = run_with(format!("wss://localhost:{port}"), trusting.clone());
    assert_eq!((faults_of(&report), report.connection.as_str()), (names(&[]), "TLS"), "{:?}", report.phases);
    assert_eq!(report.phases[0].units, 300);
    // Another name, and a file without a certificate.
    let options = |url: String, connect| Options { connect, ..options(url, PUBLISH) };
    let error = |options: &Options| format!("{:#}", run(options).expect_err("not to be trusted"));
    let other = options(format!("wss://127.0.0.1:{port}"), trusting.clone());
    assert!(error(&other).contains("TLS"), "{}", error(&other));
    let nothing = connect::Options { authorities: Some(fixture("key.pem")), ..trusting };
    let nothing = options(format!("wss://localhost:{port}"), nothing);
    assert!(error(&nothing).contains("no certificate to trust"), "{}", error(&nothing));
}
