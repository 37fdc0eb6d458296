//! TLS, when a certificate is configured. It reads the two files at start and never again: a new
//! certificate needs a restart.

use std::{path::Path, sync::Arc};

use anyhow::Context;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::config::{Config, Tls};

/// Whether the server could use what is configured.
pub(crate) fn check(config: &Config) -> anyhow::Result<()> {
    config.tls.as_ref().map_or(Ok(()), |tls| load(tls).map(drop))
}

/// What the listener needs. TLS 1.2 and 1.3, with the library's choice of ciphers.
pub(super) fn load(tls: &Tls) -> anyhow::Result<ServerConfig> {
    let certificates = certificates(&tls.certificate_file)
        .with_context(|| format!("certificates in {}", tls.certificate_file.display()))?;
    let key = PrivateKeyDer::from_pem_file(&tls.key_file)
        .with_context(|| format!("the private key in {}", tls.key_file.display()))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .with_context(|| {
            let (certificate, key) = (tls.certificate_file.display(), tls.key_file.display());
            format!("the certificate in {certificate} with the private key in {key}")
        })?;
    Ok(config)
}

fn certificates(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_file_iter(file)?.collect::<Result<_, _>>()?;
    anyhow::ensure!(!found.is_empty(), "no certificate in PEM is in it");
    Ok(found)
}
