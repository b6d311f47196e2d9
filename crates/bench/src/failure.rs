//! Why a run could not be made. There is nobody to retry: the reader of the sentence is a person.

/// A sentence, and whether another command line would mend it.
#[derive(Debug)]
pub struct Failure {
    /// For a person.
    pub sentence: String,
    /// The options cannot be used.
    pub is_mistake: bool,
}

/// What everything that may fail returns.
pub type Outcome<T> = Result<T, Failure>;

impl Failure {
    /// Of an option out of its range.
    pub fn mistake(sentence: impl Into<String>) -> Failure {
        Failure { sentence: sentence.into(), is_mistake: true }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.sentence)
    }
}

impl From<String> for Failure {
    fn from(sentence: String) -> Failure {
        Failure { sentence, is_mistake: false }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        error.to_string().into()
    }
}

impl From<rustix::io::Errno> for Failure {
    fn from(error: rustix::io::Errno) -> Failure {
        std::io::Error::from(error).into()
    }
}

impl From<whimbrel_protocol::Violation> for Failure {
    fn from(violation: whimbrel_protocol::Violation) -> Failure {
        format!("the broker sent what is not MQTT: {violation}").into()
    }
}
