//! The `$SYS` tree: who may read it, and what the data plane itself publishes there.
//!
//! Knows rules and the names of topics. Nobody but the broker, and superusers, publishes there: a monitor must be able to
//! believe what it reads. What is periodic comes from Python through [`crate::Broker::publish`].

use crate::socket::Peer;

/// Who may subscribe to filters under `$SYS`, besides superusers.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Readers {
    /// Clients of this machine: loopback addresses and unix sockets.
    #[default]
    Local,
    /// Everybody; the hooks may still say no.
    All,
    /// Nobody.
    Nobody,
}

impl Readers {
    /// The words of the settings.
    pub const NAMES: [(&'static str, Readers); 3] =
        [("local", Readers::Local), ("all", Readers::All), ("nobody", Readers::Nobody)];

    /// By its word.
    pub fn from_name(word: &str) -> Option<Readers> {
        Readers::NAMES.iter().find(|(name, _)| *name == word).map(|(_, readers)| *readers)
    }
}

/// What the data plane is told about the tree.
#[derive(Clone, Copy, Default, Debug)]
pub struct SysOptions {
    /// Who may read.
    pub readers: Readers,
    /// Whether clients that come and go are told of.
    pub is_presence_published: bool,
}

/// The same with the names made.
#[derive(Default, Debug)]
pub(crate) struct Sys {
    pub(crate) readers: Readers,
    /// "$SYS/brokers/<node>/clients"; None: clients that come and go are not told of.
    pub(crate) clients: Option<Box<str>>,
}

impl Sys {
    pub(crate) fn new(node_name: &str, options: SysOptions) -> Sys {
        let clients = options.is_presence_published.then(|| format!("$SYS/brokers/{node_name}/clients").into());
        Sys { readers: options.readers, clients }
    }

    /// Whether a client with this address may subscribe to the tree.
    pub(crate) fn admits(&self, peer: &Peer) -> bool {
        match (self.readers, peer) {
            (Readers::All, _) | (Readers::Local, Peer::Local) => true,
            (Readers::Local, Peer::Net(address, _)) => address.to_canonical().is_loopback(),
            (Readers::Nobody, _) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clients_of_this_machine_read_unless_it_is_said_otherwise() {
        let local =
            ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"].map(|text| Peer::Net(text.parse().unwrap(), 1));
        let remote = ["10.0.0.1", "::ffff:10.0.0.1", "2001:db8::1"].map(|text| Peer::Net(text.parse().unwrap(), 1));
        let admitted = |readers| {
            let sys = Sys { readers, clients: None };
            let count = |peers: &[Peer]| peers.iter().filter(|peer| sys.admits(peer)).count();
            (count(&local), count(&remote), count(&[Peer::Local]))
        };
        assert_eq!(admitted(Readers::default()), (4, 0, 1));
        assert_eq!(admitted(Readers::All), (4, 3, 1));
        assert_eq!(admitted(Readers::Nobody), (0, 0, 0));
    }
}
