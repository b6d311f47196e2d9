//! What became of every message: who sent it, how often it was routed, who had it, and who must still have it.
//!
//! Knows the promises of QoS, order and shared subscriptions (MQTT 5.0 sections 4.3, 4.6, 4.8.2). Does not know sockets or
//! the broker; a promise that is broken comes back as a sentence.

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_protocol::QoS;

use crate::sessions::Span;
use crate::wire::Letter;

/// A promise that was broken, in words.
pub type Fault = String;

/// The author of what comes from inside the broker.
pub const INSIDE: usize = usize::MAX;

/// Whom a message reaches: a client, and the life of its session.
pub type Reader = (usize, u32);

/// A message to be published.
#[derive(Clone, Copy, Debug)]
pub struct Draft {
    /// Where to.
    pub topic: &'static str,
    /// With which QoS.
    pub qos: QoS,
    /// Retain flag.
    pub retain: bool,
    /// Message Expiry Interval, MQTT 5 only; seconds.
    pub expiry_s: Option<u32>,
    /// Bytes behind the number.
    pub padding: usize,
}

/// A message as its author knows it.
#[derive(Clone, Debug)]
pub struct Record {
    /// Number of the client, or [`INSIDE`].
    pub author: usize,
    /// What it is.
    pub draft: Draft,
    /// Whether it is somebody's will.
    pub is_will: bool,
    /// Whether it left on a connection that was not let in yet: others may overtake it.
    pub is_hasty: bool,
    /// When its author first sent it; steps of the simulation.
    pub sent_order: u64,
    /// How often the author sent it.
    pub attempts: u32,
    /// How often the broker routed it.
    pub routed: u32,
    /// When the broker first routed it; milliseconds.
    pub routed_ms: u64,
    /// How often a crash took a routing back for certain.
    pub unrouted: u32,
    /// How often nobody could tell.
    pub doubtful: u32,
    /// Whether its author has read that it was taken.
    pub is_taken: bool,
    /// Whether its author has read that it was not.
    pub is_refused: bool,
}

impl Record {
    /// Whether it goes to one member of each group.
    pub fn is_shared(&self) -> bool {
        self.draft.topic.starts_with("s/")
    }

    /// How often it was routed, crashes or not.
    pub fn routed_ever(&self) -> u32 {
        self.routed + self.unrouted
    }
}

#[derive(Default, Debug)]
struct Receipt {
    fresh: u32,
    accepted: u32,
}

/// A message that a group owes to one of its members.
#[derive(Debug)]
struct GroupDue {
    number: usize,
    since_order: u64,
    /// A member was there whose session ends with its connection: a crash may take it.
    is_mortal: bool,
}

/// One routing of a message.
#[derive(Clone, Copy, Debug)]
struct Routing {
    number: usize,
    span: Span,
}

/// All messages.
#[derive(Default, Debug)]
pub struct Books {
    records: Vec<Record>,
    receipts: BTreeMap<(Reader, usize), Receipt>,
    /// The last message of an author, topic, QoS and QoS of delivery that a reader had.
    last: BTreeMap<(usize, &'static str, QoS, QoS, Reader), usize>,
    dues: BTreeSet<(Reader, usize)>,
    group_dues: Vec<GroupDue>,
    accepted_by: BTreeMap<usize, Reader>,
    /// When a member of the group last went for good; what it had been sent with QoS 2 went with it.
    member_lost_order: u64,
    /// When nobody was left to take what it had.
    group_lost_order: u64,
    /// Since the last crash.
    routings: Vec<Routing>,
    /// What is owed again if the author hears that it was taken, without another routing.
    dormant: BTreeSet<(Reader, usize)>,
    /// What is owed only as long as nothing crashes: the session ended with its connection when it was routed.
    mortal: BTreeSet<(Reader, usize)>,
    crashes: u32,
}

/// What stands in a message: its number, and something to make it longer.
pub fn payload(number: usize, padding: usize) -> Vec<u8> {
    let mut payload = format!("{number}.").into_bytes();
    payload.resize(payload.len() + padding, b'x');
    payload
}

/// The number in a message.
pub fn number_of(payload: &[u8]) -> Option<usize> {
    let digits = payload.split(|byte| *byte == b'.').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

impl Books {
    /// A message that its author is about to send; its number.
    pub fn write(&mut self, record: Record) -> usize {
        self.records.push(record);
        self.records.len() - 1
    }

    /// A message's record.
    pub fn record(&self, number: usize) -> &Record {
        &self.records[number]
    }

    /// Its author does not wait for CONNACK.
    pub fn hurry(&mut self, number: usize) {
        self.records[number].is_hasty = true;
    }

    /// Its author sends it again.
    pub fn repeat(&mut self, number: usize) {
        self.records[number].attempts += 1;
    }

    /// The broker routed it.
    pub fn route(&mut self, number: usize, now_ms: u64) -> Result<(), Fault> {
        let Some(record) = self.records.get_mut(number) else {
            return Err(format!("message {number} was routed, but nobody wrote it"));
        };
        record.routed += 1;
        if record.routed == 1 {
            record.routed_ms = now_ms;
        }
        let most = if record.draft.qos == QoS::AtLeastOnce { record.attempts } else { 1 } + record.doubtful;
        if record.routed > most {
            let (qos, routed) = (record.draft.qos as u8, record.routed);
            return Err(format!(
                "message {number} of QoS {qos}, sent {} times, was routed {routed} times",
                record.attempts
            ));
        }
        Ok(())
    }

    /// The turn in which it was routed.
    pub fn note_routing(&mut self, number: usize, span: Span) {
        self.dormant.retain(|(_, of)| *of != number);
        self.routings.push(Routing { number, span });
    }

    /// Its author has read that it was taken.
    pub fn take(&mut self, number: usize) {
        self.records[number].is_taken = true;
        let woken: Vec<_> = self.dormant.iter().filter(|(_, of)| *of == number).copied().collect();
        woken.into_iter().for_each(|due| {
            self.dormant.remove(&due);
            self.dues.insert(due);
        });
    }

    /// Its author has read that the broker could not store it.
    pub fn refuse(&mut self, number: usize) {
        self.records[number].is_refused = true;
    }

    /// Whether there was one.
    pub fn has_crashed(&self) -> bool {
        self.crashes > 0
    }

    /// A crash left what was submitted up to `kept`, and these readers. What was routed later is forgotten; its authors may
    /// send it again.
    pub fn crash(&mut self, kept: u64, is_reader: impl Fn(Reader) -> bool) {
        self.crashes += 1;
        let mut uncertain = BTreeSet::new();
        for Routing { number, span } in std::mem::take(&mut self.routings) {
            let record = &mut self.records[number];
            if span.is_kept(kept) {
                continue;
            }
            uncertain.insert(number);
            if span.is_lost(kept) {
                record.routed -= 1;
                record.unrouted += 1;
            } else {
                record.doubtful += 1;
            }
        }
        let mortal = std::mem::take(&mut self.mortal);
        self.dues.retain(|due| is_reader(due.0) && !mortal.contains(due));
        self.dormant.retain(|(reader, _)| is_reader(*reader));
        let is_gone = |number: usize| uncertain.contains(&number) && !self.records[number].is_taken;
        let (dormant, dues) = std::mem::take(&mut self.dues).into_iter().partition(|(_, number)| is_gone(*number));
        self.dues = dues;
        self.dormant.extend::<BTreeSet<_>>(dormant);
        let records = &self.records;
        let is_sure = |number: usize| !uncertain.contains(&number) || records[number].is_taken;
        self.group_dues.retain(|due| !due.is_mortal && is_sure(due.number));
    }

    /// A reader must have it before all is over. `is_mortal`: unless there is a crash before.
    pub fn owe(&mut self, reader: Reader, number: usize, is_mortal: bool) {
        self.dues.insert((reader, number));
        if is_mortal {
            self.mortal.insert((reader, number));
        }
    }

    /// One member of the group must have it.
    pub fn owe_group(&mut self, number: usize, since_order: u64, is_mortal: bool) {
        self.group_dues.push(GroupDue { number, since_order, is_mortal });
    }

    /// A member of the group has gone for good. What it had goes to the others, if there are some.
    pub fn lose_member(&mut self, order: u64, has_others: bool) {
        self.member_lost_order = order;
        if !has_others {
            self.group_lost_order = order;
        }
    }

    /// A reader took a message. `is_new`: not one that its QoS 2 memory knows.
    pub fn receive(&mut self, reader: Reader, letter: &Letter, is_new: bool) -> Result<usize, Fault> {
        let found = number_of(&letter.payload).filter(|number| *number < self.records.len());
        let Some(number) = found else { return Err("a message arrived that nobody wrote".to_owned()) };
        let record = &self.records[number];
        if record.draft.topic != letter.topic {
            return Err(format!("message {number} for {} arrived for {}", record.draft.topic, letter.topic));
        }
        if record.routed_ever() == 0 {
            return Err(format!("message {number} arrived, but was never routed"));
        }
        if letter.qos > record.draft.qos {
            return Err(format!("message {number} arrived with a QoS above its own"));
        }
        let is_first = !self.receipts.contains_key(&(reader, number));
        let receipt = self.receipts.entry((reader, number)).or_default();
        receipt.fresh += u32::from(!letter.dup);
        receipt.accepted += u32::from(is_new && letter.qos == QoS::ExactlyOnce);
        // A retained message comes once more for each subscription, and one of a group may come back to who gave it away.
        let is_counted = !record.draft.retain && !record.is_shared();
        // What is in flight at QoS 1 is not known to have been sent once the broker is another.
        let most = match letter.qos {
            QoS::ExactlyOnce => record.routed,
            _ => record.routed_ever() * (1 + self.crashes),
        };
        if is_counted && receipt.fresh > most {
            return Err(format!("message {number} arrived {} times as new", receipt.fresh));
        }
        if is_counted && letter.qos == QoS::ExactlyOnce && receipt.accepted > 1 {
            return Err(format!("message {number} of QoS 2 was accepted twice"));
        }
        if is_counted && is_first {
            self.check_order(reader, letter.qos, number)?;
        }
        if record_is_exclusive(&self.records[number], letter.qos) {
            self.check_exclusive(reader, number)?;
        }
        Ok(number)
    }

    fn check_order(&mut self, reader: Reader, qos: QoS, number: usize) -> Result<(), Fault> {
        let record = &self.records[number];
        if record.is_will || record.is_hasty {
            return Ok(());
        }
        let key = (record.author, record.draft.topic, record.draft.qos, qos, reader);
        let is_repeated = record.attempts > 1; // Its second copy may be the first that this reader gets.
        let last = self.last.entry(key).or_insert(number);
        if *last > number && !is_repeated {
            return Err(format!("message {number} arrived behind {last}, which has the same author, topic and QoS"));
        }
        *last = number.max(*last);
        Ok(())
    }

    fn check_exclusive(&mut self, reader: Reader, number: usize) -> Result<(), Fault> {
        match *self.accepted_by.entry(number).or_insert(reader) {
            first if first == reader => Ok(()),
            first => Err(format!("message {number} of QoS 2 went to two members of its group: {first:?}, {reader:?}")),
        }
    }

    /// What the living readers still miss, those of the group included; `now_ms` excuses what has expired.
    pub fn missing(&self, now_ms: u64, is_living: impl Fn(Reader) -> bool) -> Vec<String> {
        let is_expired = |number: usize| {
            let record = &self.records[number];
            record.draft.expiry_s.is_some_and(|expiry_s| now_ms >= record.routed_ms + u64::from(expiry_s) * 1000)
        };
        let is_missing = |(reader, number): &&(Reader, usize)| {
            is_living(*reader) && !self.receipts.contains_key(&(*reader, *number))
        };
        let dues = self.dues.iter().filter(is_missing).filter(|(_, number)| !is_expired(*number));
        let mut missing: Vec<String> = dues.map(|((who, _), number)| format!("c{who}: message {number}")).collect();
        let had: BTreeSet<usize> = self.receipts.keys().map(|(_, number)| *number).collect();
        for due in &self.group_dues {
            let is_sent_once = self.records[due.number].draft.qos == QoS::ExactlyOnce; // [MQTT-4.8.2-5]
            let lost_order = if is_sent_once { self.member_lost_order } else { self.group_lost_order };
            let is_excused = is_expired(due.number) || lost_order >= due.since_order;
            if !is_excused && !had.contains(&due.number) {
                missing.push(format!("group: message {}", due.number));
            }
        }
        missing
    }

    /// How many members had messages of the group beyond one for each time it was routed.
    pub fn moved(&self) -> u64 {
        let mut readers: BTreeMap<usize, u64> = BTreeMap::new();
        let of_group = self.receipts.keys().filter(|(_, number)| self.records[*number].is_shared());
        of_group.for_each(|(_, number)| *readers.entry(*number).or_default() += 1);
        readers.into_iter().map(|(number, count)| count.saturating_sub(self.records[number].routed_ever().into())).sum()
    }

    /// How many promises there were: to readers, to groups.
    pub fn promises(&self) -> (usize, usize) {
        (self.dues.len(), self.group_dues.len())
    }
}

/// Of QoS 2 in a group nobody else gets what one member was sent [MQTT-4.8.2-5].
fn record_is_exclusive(record: &Record, qos: QoS) -> bool {
    record.is_shared() && qos == QoS::ExactlyOnce
}
