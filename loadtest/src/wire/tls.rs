//! TLS for `wss://`, with the certificates that the system trusts or those of a file.
//!
//! It must never accept a certificate that does not verify: a figure of another server would be worth nothing.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring, version};

use super::stream::Stream;

/// How to make a connection secure.
#[derive(Clone)]
pub struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    /// For the server of this name; trusts the certificates of `authorities` (PEM) in place of the system's.
    ///
    /// # Errors
    /// If the name is none, or there are no certificates to trust.
    pub fn new(name: &str, authorities: Option<&Path>) -> Result<Self> {
        let name = ServerName::try_from(name.trim_matches(['[', ']']).to_string())
            .with_context(|| format!("{name} is no name of a server"))?;
        let mut roots = RootCertStore::empty();
        match authorities {
            Some(path) => {
                let read = || format!("read certificates from {}", path.display());
                for certificate in CertificateDer::pem_file_iter(path).with_context(read)? {
                    roots.add(certificate.with_context(read)?).with_context(read)?;
                }
            }
            None => {
                // It counts those that cannot be read: they are not trusted, and that is all.
                let _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        ensure!(!roots.is_empty(), "no certificate to trust; name a file of them with --ca");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .context("the versions of TLS")?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }

    /// Makes a connection secure.
    ///
    /// # Errors
    /// If the handshake fails.
    pub async fn secure(&self, stream: TcpStream) -> Result<Stream> {
        let stream = self.connector.connect(self.name.clone(), stream).await.context("TLS")?;
        Ok(Stream::Secure(Box::new(stream)))
    }
}
