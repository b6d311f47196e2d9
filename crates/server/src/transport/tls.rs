//! TLS as a layer, and the certificates that a listener shows.
//!
//! Knows how to read PEM files into a configuration and how to move bytes through a TLS machine that does no I/O. A
//! configuration is replaced as a whole: connections keep the one that they began with. Does not know sockets.

use std::io::{Read, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};

use crate::options::{TlsOptions, Verify};

/// Plaintext that may come out beyond what goes in: of records whose beginning came before. Records have at most 16 KiB
/// and 2 KiB of expansion (RFC 5246, section 6.2.3).
pub(super) const HELD_BACK_BYTES_MAX: usize = 20 * 1024;

/// What a listener shows and asks for; read at accept.
#[derive(Debug)]
pub(crate) struct Certificates {
    options: TlsOptions,
    current: RwLock<Arc<ServerConfig>>,
}

impl Certificates {
    /// Reads the files. The error is a sentence that names the file.
    pub(crate) fn load(options: &TlsOptions) -> Result<Certificates, String> {
        let current = RwLock::new(Arc::new(configuration(options)?));
        Ok(Certificates { options: options.clone(), current })
    }

    /// Reads the files again, for [`Certificates::replace`].
    pub(crate) fn read_again(&self) -> Result<ServerConfig, String> {
        configuration(&self.options)
    }

    /// New connections begin with this.
    pub(crate) fn replace(&self, configuration: ServerConfig) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(configuration);
    }

    fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn configuration(options: &TlsOptions) -> Result<ServerConfig, String> {
    let chain = items::<CertificateDer<'static>>(&options.cert_file, "certificate")?;
    let key = PrivateKeyDer::from_pem_file(&options.key_file)
        .map_err(|error| pem_problem(&options.key_file, "private key", &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| error.to_string())?
        .with_client_cert_verifier(verifier(options)?);
    builder.with_single_cert(chain, key).map_err(|error| key_problem(options, &error))
}

fn key_problem(options: &TlsOptions, error: &rustls::Error) -> String {
    let (cert, key) = (options.cert_file.display(), options.key_file.display());
    match error {
        rustls::Error::InconsistentKeys(_) => format!("the key in {key} does not belong to the certificate in {cert}"),
        error => format!("the certificate in {cert} and the key in {key} cannot be used: {error}"),
    }
}

fn verifier(options: &TlsOptions) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let Some(ca_file) = options.ca_file.as_deref().filter(|_| options.verify != Verify::None) else {
        return Ok(WebPkiClientVerifier::no_client_auth());
    };
    let mut roots = RootCertStore::empty();
    for certificate in items::<CertificateDer<'static>>(ca_file, "certificate")? {
        roots.add(certificate).map_err(|error| format!("{}: {error}", ca_file.display()))?;
    }
    let crls = match &options.crl_file {
        Some(path) => items::<CertificateRevocationListDer<'static>>(path, "revocation list")?,
        None => Vec::new(),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).with_crls(crls);
    let builder = if options.verify == Verify::Optional { builder.allow_unauthenticated() } else { builder };
    let said = |error| match &options.crl_file {
        Some(path) => format!("{} or {}: {error}", ca_file.display(), path.display()),
        None => format!("{}: {error}", ca_file.display()),
    };
    builder.build().map_err(said)
}

/// All items of a kind in a PEM file, at least one.
fn items<T: PemObject>(path: &Path, what: &str) -> Result<Vec<T>, String> {
    let items = T::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<T>, _>>);
    match items {
        Ok(items) if !items.is_empty() => Ok(items),
        Ok(_) => Err(pem_problem(path, what, &pem::Error::NoItemsFound)),
        Err(error) => Err(pem_problem(path, what, &error)),
    }
}

fn pem_problem(path: &Path, what: &str, error: &pem::Error) -> String {
    let path = path.display();
    match error {
        pem::Error::Io(error) => {
            let reason = error.to_string();
            format!("{path}: {}", reason.split(" (os error").next().unwrap_or_default().to_lowercase())
        }
        pem::Error::NoItemsFound => format!("{path} holds no {what} in PEM form"),
        error => format!("{path} is not a PEM file with a {what}: {error}"),
    }
}

/// The machine of one connection.
#[derive(Debug)]
pub(super) struct Tls(ServerConnection);

impl Tls {
    pub(super) fn new(certificates: &Certificates) -> Result<Tls, rustls::Error> {
        let mut machine = ServerConnection::new(certificates.current())?;
        machine.set_buffer_limit(None); // The outbox bounds what is written.
        Ok(Tls(machine))
    }

    pub(super) fn is_open(&self) -> bool {
        !self.0.is_handshaking()
    }

    /// Takes what is in `raw` of the buffer and leaves plaintext at the buffer's front. `raw` begins at
    /// [`HELD_BACK_BYTES_MAX`] or behind it, so that the front never reaches what is unread. Returns the plaintext's
    /// length, and why nothing more comes where this is the end.
    pub(super) fn receive(&mut self, buffer: &mut [u8], raw: Range<usize>) -> (usize, Option<String>) {
        let (mut at, mut len) = (raw.start, 0);
        while at < raw.end {
            match self.0.read_tls(&mut &buffer[at..raw.end]) {
                Ok(0) => return (len, Some("the TLS connection was closed".into())),
                Ok(count) => at += count,
                Err(error) => return (len, Some(format!("TLS: {error}"))),
            }
            let processed = self.0.process_new_packets();
            while let Ok(count @ 1..) = self.0.reader().read(&mut buffer[len..at]) {
                len += count;
            }
            match processed {
                Ok(state) if state.peer_has_closed() => return (len, Some("the TLS connection was closed".into())),
                Ok(_) => {}
                Err(error) => return (len, Some(format!("TLS: {error}"))),
            }
        }
        (len, None)
    }

    /// Takes plaintext for the peer.
    pub(super) fn wrap(&mut self, bytes: &[u8]) {
        // Writing to the machine's own buffer fails only where that is bounded.
        let _ = self.0.writer().write_all(bytes);
    }

    pub(super) fn wants_write(&self) -> bool {
        self.0.wants_write()
    }

    /// Appends the records that wait.
    pub(super) fn put_records(&mut self, out: &mut Vec<u8>) {
        while self.0.wants_write() {
            if self.0.write_tls(out).is_err() {
                return; // A vector takes everything.
            }
        }
    }

    pub(super) fn close(&mut self) {
        self.0.send_close_notify();
    }
}
