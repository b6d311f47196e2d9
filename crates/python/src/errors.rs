//! The one place that turns errors into exceptions.

use pyo3::exceptions::{PyConnectionError, PyException, PyOSError, PyTimeoutError, PyValueError};
use pyo3::{PyErr, create_exception};
use whimbrel_protocol::Violation;
use whimbrel_server::StartError;
use whimbrel_server::client::ClientError;

create_exception!(whimbrel._core, ListenError, PyOSError, "A listener could not be bound.");
create_exception!(whimbrel._core, CertificateError, PyValueError, "A listener's certificates cannot be used.");
create_exception!(whimbrel._core, StorageError, PyException, "A store cannot be used.");

pub(crate) fn start(error: StartError) -> PyErr {
    match error {
        StartError::Listen { listener, address, error } => {
            let reason = reason(&error);
            // filename2 is the listener's label: OSError's constructor takes (errno, strerror, filename, winerror, filename2).
            ListenError::new_err((error.raw_os_error().unwrap_or(0), reason, address, 0, listener))
        }
        StartError::Certificates { listener, text } => certificates(format!("{listener}: {text}")),
        StartError::Storage { folder, text } => {
            storage(format!("cannot use the store in {}: {text}", folder.display()))
        }
        StartError::Resources(error) => PyOSError::new_err((error.raw_os_error().unwrap_or(0), reason(&error))),
    }
}

fn reason(error: &std::io::Error) -> String {
    error.to_string().split(" (os error").next().unwrap_or_default().to_owned()
}

pub(crate) fn certificates(text: String) -> PyErr {
    CertificateError::new_err(text)
}

pub(crate) fn storage(text: String) -> PyErr {
    StorageError::new_err(text)
}

pub(crate) fn violation(violation: Violation) -> PyErr {
    PyValueError::new_err(violation.what)
}

pub(crate) fn client(error: ClientError) -> PyErr {
    match error {
        ClientError::TimedOut(what) => PyTimeoutError::new_err(what),
        ClientError::Invalid(violation) => self::violation(violation),
        other => PyConnectionError::new_err(other.to_string()),
    }
}
