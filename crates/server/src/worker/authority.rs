//! Verdicts about one client's publishes, remembered for a while.
//!
//! Knows topics and answers. An unknown one becomes a question to Python. Bounded: [`VERDICTS_MAX`] verdicts a client,
//! the oldest goes first; each is good for [`VERDICT_LIFE_MS`].

use std::collections::VecDeque;

use whimbrel_protocol::ReasonCode;
use whimbrel_protocol::packet::Publish;

use crate::answer::Answer;

/// Verdicts remembered for one client.
const VERDICTS_MAX: usize = 32;
/// Verdicts about longer topics are not remembered; bytes.
const TOPIC_LEN_MAX: usize = 1024;
/// How long a verdict is good; milliseconds.
const VERDICT_LIFE_MS: u64 = 60_000;

#[derive(Debug)]
struct Verdict {
    topic: Box<str>,
    qos: u8,
    retain: bool,
    answer: Answer,
    until_ms: u64,
}

/// What is remembered.
#[derive(Default, Debug)]
pub(super) struct Verdicts {
    known: VecDeque<Verdict>,
    epoch: u32,
}

impl Verdicts {
    /// Forgets everything where it was learned from other hooks than those of `epoch`.
    pub(super) fn renew(&mut self, epoch: u32) {
        if self.epoch != epoch {
            self.known.clear();
            self.epoch = epoch;
        }
    }

    /// Of which hooks it has learned.
    pub(super) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// What was answered about such a publish.
    pub(super) fn find(&self, topic: &str, publish: &Publish<'_>, now_ms: u64) -> Option<&Answer> {
        let is_it = |known: &&Verdict| {
            known.until_ms > now_ms
                && known.qos == publish.qos as u8
                && known.retain == publish.retain
                && *known.topic == *topic
        };
        self.known.iter().find(is_it).map(|known| &known.answer)
    }

    /// Remembers a yes or a no. Anything else says that nobody could decide, and the next publish asks again.
    pub(super) fn remember(&mut self, topic: &str, publish: &Publish<'_>, answer: &Answer, now_ms: u64) {
        let is_verdict = matches!(answer.reason, ReasonCode::SUCCESS | ReasonCode::NOT_AUTHORIZED);
        if !is_verdict || topic.len() > TOPIC_LEN_MAX {
            return;
        }
        if self.known.len() >= VERDICTS_MAX {
            self.known.pop_front();
        }
        let (qos, retain) = (publish.qos as u8, publish.retain);
        let (answer, until_ms) = (answer.clone(), now_ms + VERDICT_LIFE_MS);
        self.known.push_back(Verdict { topic: topic.into(), qos, retain, answer, until_ms });
    }
}
