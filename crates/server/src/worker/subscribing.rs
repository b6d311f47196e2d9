//! SUBSCRIBE and UNSUBSCRIBE; the questions about them and about publishes.
//!
//! Knows which filters are granted and with what; keeps the session's list and the routing table alike.

use std::sync::Arc;

use whimbrel_protocol::packet::{Packet, Publish, SubAck, Subscribe, SubscriptionOptions, Unsubscribe};
use whimbrel_protocol::properties::{Properties, id};
use whimbrel_protocol::session::subscriptions::Subscription;
use whimbrel_protocol::{Filter, ReasonCode, Topic};
use whimbrel_router::{Entry, Place};

use super::Worker;
use super::client::{End, Parked};
use super::inbound::Step;
use crate::event::{Action, Authorize, Event};
use crate::shared::Interest;

impl Worker {
    pub(super) fn on_subscribe(&mut self, slot: u32, subscribe: &Subscribe<'_>) -> Result<Step, End> {
        if !self.shared.wants(Interest::AUTHORIZE) || self.clients[slot as usize].is_superuser {
            self.subscribe(slot, subscribe, &[]);
            return Ok(Step::Next);
        }
        if let Some(verdicts) = self.take_answer(slot) {
            self.subscribe(slot, subscribe, &verdicts);
            return Ok(Step::Next);
        }
        let filters = subscribe.filters.iter();
        let topics = filters.map(|(filter, _)| filter.map_or("", Filter::as_str).into()).collect();
        let qos = subscribe.filters.iter().map(|(_, options)| options.qos as u8).max().unwrap_or(0);
        self.ask_authorize(slot, Asked { action: Action::Subscribe, topics, qos, retain: false });
        Ok(Step::ParkBefore)
    }

    /// `verdicts`: one code for each filter, or empty where nobody was asked.
    fn subscribe(&mut self, slot: u32, subscribe: &Subscribe<'_>, verdicts: &[u8]) {
        self.counts.subscribe_received += 1;
        self.counts.client_subscribe += 1;
        let identifier = subscribe.properties.number(id::SUBSCRIPTION_IDENTIFIER).unwrap_or(0);
        let mut granted = Vec::with_capacity(subscribe.filters.len());
        let mut reasons = Vec::with_capacity(subscribe.filters.len());
        for (place, (filter, options)) in subscribe.filters.iter().enumerate() {
            let verdict = verdicts.get(place).or(verdicts.last()).map_or(ReasonCode::SUCCESS, |code| ReasonCode(*code));
            let outcome = filter.and_then(|filter| self.grant(slot, filter, *options, verdict));
            reasons.push(outcome.map_or_else(|reason| reason, |(_, options)| ReasonCode(options.qos as u8)));
            granted.extend(outcome.ok());
        }
        self.count_refused(&reasons);
        self.enter_filters(slot, &granted, identifier);
        self.counts.suback_sent += 1;
        let properties = Properties::default();
        self.send(slot, &Packet::SubAck(SubAck { packet_id: subscribe.packet_id, properties, reasons }));
    }

    fn count_refused(&mut self, reasons: &[ReasonCode]) {
        self.counts.subscribe_error += u64::from(reasons.iter().any(|reason| reason.is_error()));
        self.counts.subscribe_auth_error += u64::from(reasons.contains(&ReasonCode::NOT_AUTHORIZED));
    }

    /// The filter with the options it is granted, or why not.
    fn grant<'a>(
        &mut self,
        slot: u32,
        filter: Filter<'a>,
        options: SubscriptionOptions,
        verdict: ReasonCode,
    ) -> Result<(Filter<'a>, SubscriptionOptions), ReasonCode> {
        if verdict.is_error() {
            return Err(verdict);
        }
        if filter.is_shared() {
            return Err(ReasonCode::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED);
        }
        let connection = &self.clients[slot as usize].connection;
        let limits = Arc::clone(connection.limits());
        let qos = connection.granted(options.qos);
        if filter.level_count() > usize::from(limits.max_topic_levels) {
            return Err(ReasonCode::TOPIC_FILTER_INVALID);
        }
        let Some(seat) = self.seat_of(slot) else {
            return Err(ReasonCode::UNSPECIFIED_ERROR);
        };
        let subscriptions = &seat.session.subscriptions;
        if subscriptions.len() >= limits.max_subscriptions as usize && !subscriptions.contains(filter) {
            return Err(ReasonCode::QUOTA_EXCEEDED);
        }
        Ok((filter, SubscriptionOptions { qos, ..options }))
    }

    /// Granted filters take effect: in the session, in the table, and for retained messages.
    fn enter_filters(&mut self, slot: u32, granted: &[(Filter<'_>, SubscriptionOptions)], identifier: u32) {
        let Some(seat_slot) = self.clients[slot as usize].session else {
            return;
        };
        let Some(seat) = self.sessions.get_mut(seat_slot) else {
            return;
        };
        let epoch = seat.epoch;
        let place = Place { owner: self.index, slot: seat_slot, epoch };
        let mut replays = Vec::new();
        for (filter, options) in granted {
            let is_new = seat.session.subscriptions.insert(*filter, Subscription { options: *options, identifier });
            self.subscription_count += u64::from(is_new);
            // 0: always, 1: only for a new subscription, 2: never [MQTT-3.3.1-9] to [MQTT-3.3.1-11].
            if options.retain_handling == 0 || (options.retain_handling == 1 && is_new) {
                replays.push((filter, options.qos));
            }
        }
        let entry = |options: &SubscriptionOptions| Entry { place, options: *options, identifier };
        self.shared.router.subscribe(granted.iter().map(|(filter, options)| (*filter, entry(options))));
        for (filter, qos) in replays {
            self.replay(seat_slot, epoch, *filter, (qos, identifier));
        }
    }

    pub(super) fn on_unsubscribe(&mut self, slot: u32, unsubscribe: &Unsubscribe<'_>) {
        self.counts.unsubscribe_received += 1;
        self.counts.client_unsubscribe += 1;
        let Some(seat_slot) = self.clients[slot as usize].session else {
            return;
        };
        let Some(seat) = self.sessions.get_mut(seat_slot) else {
            return;
        };
        let place = Place { owner: self.index, slot: seat_slot, epoch: seat.epoch };
        let mut removed = Vec::new();
        let mut reasons = Vec::with_capacity(unsubscribe.filters.len());
        for filter in &unsubscribe.filters {
            reasons.push(match filter {
                Ok(filter) if seat.session.subscriptions.remove(*filter) => {
                    removed.push(*filter);
                    ReasonCode::SUCCESS
                }
                Ok(_) => ReasonCode::NO_SUBSCRIPTION_EXISTED,
                Err(reason) => *reason,
            });
        }
        self.subscription_count -= removed.len() as u64;
        self.counts.unsubscribe_error += u64::from(reasons.iter().any(|reason| reason.is_error()));
        self.replays.retain(|replay| replay.seat != seat_slot || removed.iter().all(|gone| !replay.is_of(*gone)));
        self.shared.router.unsubscribe(removed, place);
        self.counts.unsuback_sent += 1;
        let properties = Properties::default();
        self.send(slot, &Packet::UnsubAck(SubAck { packet_id: unsubscribe.packet_id, properties, reasons }));
    }

    /// Whether the client may publish so; None: Python is being asked, the packet comes again.
    pub(super) fn may_publish(&mut self, slot: u32, publish: &Publish<'_>, topic: Topic<'_>) -> Option<bool> {
        let now_ms = self.now.ms;
        let client = &mut self.clients[slot as usize];
        if client.is_superuser {
            return Some(true);
        }
        let verdicts = client.verdicts.get_or_insert_default();
        if let Some(is_allowed) = verdicts.find(topic.as_str(), publish, now_ms) {
            return Some(is_allowed);
        }
        if let Some(answer) = self.take_answer(slot) {
            let is_allowed = answer.first() == Some(&0);
            let client = &mut self.clients[slot as usize];
            client.verdicts.get_or_insert_default().remember(topic.as_str(), publish, is_allowed, now_ms);
            return Some(is_allowed);
        }
        let topics = vec![topic.as_str().into()];
        let (qos, retain) = (publish.qos as u8, publish.retain);
        self.ask_authorize(slot, Asked { action: Action::Publish, topics, qos, retain });
        None
    }

    fn ask_authorize(&mut self, slot: u32, asked: Asked) {
        self.counts.client_check_acl += 1;
        let ticket = self.ticket(slot);
        let Some(seat) = self.seat_of(slot) else { return };
        let (client_id, username) = (Arc::clone(&seat.session.client_id), seat.username.clone());
        let client = &mut self.clients[slot as usize];
        self.events.push(Event::Authorize(Box::new(Authorize {
            ticket,
            client_id,
            username,
            peer: client.peer.to_string(),
            action: asked.action,
            topics: asked.topics,
            qos: asked.qos,
            retain: asked.retain,
        })));
        let due_ms = self.now.ms + self.shared.question_deadline_ms;
        client.parked = Some(Box::new(Parked { ticket, due_ms, request: None, rest: Vec::new() }));
        self.arm(slot);
    }

    /// An answer came (or, with no codes, its deadline): the packet that waits is handled again, with it.
    pub(super) fn on_authorized(&mut self, ticket: u64, reason_codes: &[u8]) {
        let slot = ticket as u32;
        let Some(parked) = self.unpark(slot, ticket) else {
            return;
        };
        let denied = [ReasonCode::NOT_AUTHORIZED.0];
        let codes = if reason_codes.is_empty() { &denied } else { reason_codes };
        self.clients[slot as usize].answer = Some(codes.into());
        self.go_on(slot, parked.rest);
    }

    /// The answer to the question that the present packet asked when it came first. Where fewer codes came than topics
    /// were asked about, the last one stands for the rest.
    fn take_answer(&mut self, slot: u32) -> Option<Box<[u8]>> {
        self.clients[slot as usize].answer.take()
    }
}

/// What a question is about.
struct Asked {
    action: Action,
    topics: Vec<Box<str>>,
    qos: u8,
    retain: bool,
}
