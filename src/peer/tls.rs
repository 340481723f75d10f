//! TLS to other relays: whose certificates are trusted.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use super::error::PeerError;

/// Which certificates a connection accepts.
pub type Tls = Arc<ClientConfig>;

/// Trusts the root certificates of the system and those of the file `ca`, in PEM.
///
/// # Errors
/// When the file cannot be read or holds no certificate, or there are no certificates at all.
pub fn tls(ca: Option<&Path>) -> Result<Tls, PeerError> {
    let mut roots = RootCertStore::empty();
    // A system may hold certificates that no library reads any more; the rest is enough.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(file) = ca {
        let refuse = |text: String| PeerError::Certificates { file: file.into(), text };
        let mut found = 0;
        for certificate in CertificateDer::pem_file_iter(file).map_err(|error| refuse(error.to_string()))? {
            let certificate = certificate.map_err(|error| refuse(error.to_string()))?;
            roots.add(certificate).map_err(|error| refuse(error.to_string()))?;
            found += 1;
        }
        if found == 0 {
            return Err(refuse("it holds no certificate in PEM".into()));
        }
    }
    if roots.is_empty() {
        return Err(PeerError::NoRoots);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| PeerError::Tls(error.to_string()))?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}
