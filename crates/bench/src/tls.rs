//! TLS of the clients: whom they believe, what they show, and the machine between a socket and MQTT.
//!
//! Knows PEM files and rustls; no socket. Every client is another device: no session is taken up again, so each connection
//! pays the whole handshake.

use std::io::{Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::failure::{Failure, Outcome};

/// Plaintext that may come out beyond what goes in: of records whose beginning came before (RFC 8446, section 5.2).
pub const HELD_BACK_BYTES_MAX: usize = 20 * 1024;

/// Whom the clients believe, and what they show.
#[derive(Clone, Debug)]
pub struct TlsOptions {
    /// Authorities that may have signed the broker's certificate, PEM. None: any certificate is believed.
    pub ca_file: Option<PathBuf>,
    /// The clients' certificate chain and its key, PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// What every connection begins with.
pub struct Offer {
    configuration: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Offer {
    /// Reads the files. `host`: the name that the broker's certificate must have.
    pub fn new(options: &TlsOptions, host: &str) -> Outcome<Offer> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| Failure::mistake(format!("host: {host} is no name that a certificate can have")))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| error.to_string())?;
        let builder = match &options.ca_file {
            Some(path) => builder.with_root_certificates(authorities(path)?),
            None => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider))),
        };
        let mut configuration = match &options.identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => builder
                .with_client_auth_cert(certificates(cert)?, private_key(key)?)
                .map_err(|error| unusable(cert, &error))?,
        };
        configuration.resumption = Resumption::disabled();
        Ok(Offer { configuration: Arc::new(configuration), name })
    }

    /// The machine of a new connection.
    pub fn begin(&self) -> Outcome<Machine> {
        let connection = ClientConnection::new(Arc::clone(&self.configuration), self.name.clone());
        let mut connection = connection.map_err(|error| format!("TLS: {error}"))?;
        connection.set_buffer_limit(None); // Who writes takes one outbox at a time.
        Ok(Machine { connection, records: Vec::new() })
    }
}

fn authorities(path: &Path) -> Outcome<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| unusable(path, &error))?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Outcome<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match found {
        Ok(found) if found.is_empty() => Err(unusable(path, &"it holds no certificate in PEM form")),
        Ok(found) => Ok(found),
        Err(error) => Err(unusable(path, &error)),
    }
}

fn private_key(path: &Path) -> Outcome<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| unusable(path, &error))
}

fn unusable(path: &Path, error: &impl std::fmt::Display) -> Failure {
    Failure::mistake(format!("{}: {error}", path.display()))
}

/// One connection's TLS, and the records that no socket has taken yet.
pub struct Machine {
    connection: ClientConnection,
    records: Vec<u8>,
}

impl Machine {
    /// Takes what is in `raw` of the buffer and leaves plaintext at the buffer's front. `raw` begins at
    /// [`HELD_BACK_BYTES_MAX`] or behind it. Returns the plaintext's length, and why nothing more comes where this is the end.
    pub fn receive(&mut self, buffer: &mut [u8], raw: Range<usize>) -> (usize, Option<String>) {
        let (mut at, mut len) = (raw.start, 0);
        while at < raw.end {
            match self.connection.read_tls(&mut &buffer[at..raw.end]) {
                Ok(0) => return (len, Some("the broker closed the connection".into())),
                Ok(count) => at += count,
                Err(error) => return (len, Some(format!("TLS: {error}"))),
            }
            let processed = self.connection.process_new_packets();
            while let Ok(count @ 1..) = self.connection.reader().read(&mut buffer[len..at]) {
                len += count;
            }
            match processed {
                Ok(state) if state.peer_has_closed() => return (len, Some("the broker closed the connection".into())),
                Ok(_) => {}
                Err(error) => return (len, Some(format!("TLS: {error}"))),
            }
        }
        (len, None)
    }

    /// What the socket has to take next; fetches the outbox where it has taken everything before.
    pub fn records(&mut self, outbox: &mut Vec<u8>) -> &mut Vec<u8> {
        if self.records.is_empty() {
            // Writing to the machine's own buffer, and to a vector, fails only where that is bounded.
            let _ = self.connection.writer().write_all(outbox);
            outbox.clear();
            while self.connection.wants_write() && self.connection.write_tls(&mut self.records).is_ok() {}
        }
        &mut self.records
    }

    /// Whether the socket has taken all that there was to write.
    pub fn is_idle(&self) -> bool {
        self.records.is_empty() && !self.connection.wants_write() && !self.connection.is_handshaking()
    }

    /// Whether there is something to write besides what MQTT wrote: a part of the handshake.
    pub fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }
}

/// Believes every certificate whose owner has its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
