//! Why a run could not be made. There is nobody to retry: the reader of the sentence is a person.

/// A sentence.
#[derive(Debug)]
pub struct Failure(String);

/// What everything that may fail returns.
pub type Outcome<T> = Result<T, Failure>;

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl From<String> for Failure {
    fn from(sentence: String) -> Failure {
        Failure(sentence)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure(error.to_string())
    }
}

impl From<rustix::io::Errno> for Failure {
    fn from(error: rustix::io::Errno) -> Failure {
        std::io::Error::from(error).into()
    }
}

impl From<whimbrel_protocol::Violation> for Failure {
    fn from(violation: whimbrel_protocol::Violation) -> Failure {
        Failure(format!("the broker sent what is not MQTT: {violation}"))
    }
}
