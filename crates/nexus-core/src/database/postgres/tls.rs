//! How a server is known before it is told anything: TLS as libpq's `sslmode` says.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::place::{PostgresDatabase, SslMode};
use crate::error::{Error, Result};

/// Stands for the authorities that this machine trusts.
const SYSTEM: &str = "system";

/// Refuses what libpq refuses: a mode that asks for an authority and names none, and one that would take any server that
/// any public authority has signed, whatever its name.
///
/// Source: <https://www.postgresql.org/docs/current/libpq-connect.html>, `sslrootcert`.
pub(super) fn require_authority(database: &PostgresDatabase) -> Result<()> {
    let system = database.root_certificate.as_deref() == Some(Path::new(SYSTEM));
    if system && database.ssl != SslMode::VerifyFull {
        return Err(Error::usage_hint(
            format!("sslmode={} with sslrootcert=system would trust whoever owns any certificate", database.ssl.word()),
            "use sslmode=verify-full, or name a file of certificates with sslrootcert",
        ));
    }
    if database.root_certificate.is_none() && matches!(database.ssl, SslMode::VerifyCa | SslMode::VerifyFull) {
        return Err(Error::usage_hint(
            format!("sslmode={} asks for a root certificate, and none is there", database.ssl.word()),
            "name its file with sslrootcert, put it at ~/.postgresql/root.crt, or use sslrootcert=system with \
             sslmode=verify-full",
        ));
    }
    Ok(())
}

/// How the server is known, as libpq does it: `require` with a root certificate is `verify-ca`.
pub(super) fn encryption(database: &PostgresDatabase) -> Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match (database.ssl, &database.root_certificate) {
        (SslMode::VerifyFull, Some(root)) => authorities(root, &provider)?,
        (SslMode::VerifyCa | SslMode::Require, Some(root)) => AnyName::new(authorities(root, &provider)?),
        // `require_authority` has refused them.
        (SslMode::VerifyFull | SslMode::VerifyCa, None) => return Err(Error::usage("no root certificate is named")),
        _ => Arc::new(Anyone(provider.clone())),
    };
    let unusable = |cause: rustls::Error| {
        Error::usage(format!("the TLS settings of {} cannot be used: {cause}", database.location()))
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let Some((certificate, key)) = &database.certificate else { return Ok(config.with_no_client_auth()) };
    let chain = certificates(certificate)?;
    let key = PrivateKeyDer::from_pem_file(key)
        .map_err(|cause| Error::usage(format!("cannot read the key `{}`: {cause}", key.display())))?;
    config.with_client_auth_cert(chain, key).map_err(unusable)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let unreadable = |cause| Error::usage(format!("cannot read the certificate `{}`: {cause}", path.display()));
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|cause: rustls::pki_types::pem::Error| unreadable(cause))
}

fn authorities(root: &Path, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(if root == Path::new(SYSTEM) {
        rustls_native_certs::load_native_certs().certs
    } else {
        certificates(root)?
    });
    WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider.clone()).build().map_err(|cause| {
        Error::usage_hint(
            format!("no certificate authority is known to check the server with: {cause}"),
            "name a file with sslrootcert, or use sslmode=require",
        )
    })
}

/// Encrypts with whoever answers.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

/// Asks for a known authority, and not for the host's name.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl AnyName {
    fn new(verifier: Arc<WebPkiServerVerifier>) -> Arc<Self> {
        Arc::new(Self(verifier))
    }
}

type Handshake = std::result::Result<HandshakeSignatureValid, rustls::Error>;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Handshake {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Handshake {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        match self.0.verify_server_cert(certificate, chain, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Handshake {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Handshake {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
