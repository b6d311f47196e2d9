//! SUBSCRIBE and UNSUBSCRIBE; the questions about them and about publishes.
//!
//! Knows which filters are granted and with what; keeps the session's list and the routing table alike.

use std::sync::{Arc, PoisonError};

use whimbrel_protocol::packet::{Packet, Publish, SubAck, Subscribe, SubscriptionOptions, Unsubscribe};
use whimbrel_protocol::properties::{Properties, id};
use whimbrel_protocol::session::subscriptions::Subscription;
use whimbrel_protocol::{Filter, ReasonCode, Subscribed, Topic};
use whimbrel_router::{Entry, Place};

use super::Worker;
use super::client::{End, Question};
use super::inbound::Step;
use crate::event::{Action, Authorize, Event};
use crate::shared::Interest;

impl Worker {
    /// `answer`: the verdicts of the question that this packet asked when it came first.
    pub(super) fn on_subscribe(
        &mut self,
        slot: u32,
        subscribe: &Subscribe<'_>,
        answer: Option<&[ReasonCode]>,
    ) -> Result<Step, End> {
        let is_asked = self.shared.wants(Interest::AUTHORIZE) && !self.clients[slot as usize].is_superuser;
        if answer.is_some() || !is_asked {
            self.subscribe(slot, subscribe, answer.unwrap_or_default());
            return Ok(Step::Next);
        }
        let filters = subscribe.filters.iter();
        let topics = filters.map(|(filter, _)| filter.map_or("", readable).into()).collect();
        let qos = subscribe.filters.iter().map(|(_, options)| options.qos as u8).max().unwrap_or(0);
        self.ask_authorize(slot, Asked { action: Action::Subscribe, topics, qos, retain: false });
        Ok(Step::ParkBefore)
    }

    /// `verdicts`: one for each filter, the last one standing for those that are missing; empty where nobody was asked.
    fn subscribe(&mut self, slot: u32, subscribe: &Subscribe<'_>, verdicts: &[ReasonCode]) {
        self.counts.subscribe_received += 1;
        self.counts.client_subscribe += 1;
        let identifier = subscribe.properties.number(id::SUBSCRIPTION_IDENTIFIER).unwrap_or(0);
        let mut new_count = 0;
        let mut granted = Vec::with_capacity(subscribe.filters.len());
        let mut reasons = Vec::with_capacity(subscribe.filters.len());
        for (place, (filter, options)) in subscribe.filters.iter().enumerate() {
            let verdict = verdicts.get(place).or(verdicts.last()).copied().unwrap_or(ReasonCode::SUCCESS);
            if !verdicts.is_empty() {
                self.count_verdict(verdict);
            }
            let allowed = if verdict.is_error() { Err(verdict) } else { *filter };
            let outcome = allowed.and_then(|filter| self.grant(slot, filter, *options, new_count));
            new_count += outcome.map_or(0, |(filter, _)| usize::from(self.is_new(slot, filter)));
            reasons.push(outcome.map_or_else(|reason| reason, |(_, options)| ReasonCode(options.qos as u8)));
            granted.extend(outcome.ok());
        }
        self.count_refused(&reasons);
        self.enter_filters(slot, &granted, identifier);
        let properties = Properties::default();
        let suback = SubAck { packet_id: subscribe.packet_id, properties, reasons };
        self.counts.suback_sent += u64::from(self.send(slot, &Packet::SubAck(suback)));
    }

    fn count_refused(&mut self, reasons: &[ReasonCode]) {
        self.counts.subscribe_error += u64::from(reasons.iter().any(|reason| reason.is_error()));
        self.counts.subscribe_auth_error += u64::from(reasons.contains(&ReasonCode::NOT_AUTHORIZED));
    }

    /// Whether the session does not hold the filter yet.
    fn is_new(&mut self, slot: u32, filter: Filter<'_>) -> bool {
        self.seat_of(slot).is_some_and(|seat| !seat.session.subscriptions.contains(filter))
    }

    /// The filter with the options it is granted, or why not. `new_count`: filters that the same packet adds before it.
    fn grant<'a>(
        &mut self,
        slot: u32,
        filter: Filter<'a>,
        options: SubscriptionOptions,
        new_count: usize,
    ) -> Result<(Filter<'a>, SubscriptionOptions), ReasonCode> {
        let connection = &self.clients[slot as usize].connection;
        let limits = Arc::clone(connection.limits());
        let qos = connection.granted(options.qos);
        if filter.is_shared() && !limits.is_shared_available {
            return Err(ReasonCode::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED);
        }
        let compared = Subscribed::new(filter).map_err(|violation| violation.reason)?.filter;
        if compared.has_wildcard() && !limits.is_wildcard_available {
            // SUBACK says it (section 3.9.3); the connection, whose other subscriptions are in order, goes on.
            return Err(ReasonCode::WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED);
        }
        if compared.level_count() > usize::from(limits.max_topic_levels) {
            return Err(ReasonCode::TOPIC_FILTER_INVALID);
        }
        if !self.may_read(slot, compared) {
            return Err(ReasonCode::NOT_AUTHORIZED);
        }
        let Some(seat) = self.seat_of(slot) else {
            return Err(ReasonCode::UNSPECIFIED_ERROR);
        };
        let subscriptions = &seat.session.subscriptions;
        let is_full = subscriptions.len() + new_count >= limits.max_subscriptions as usize;
        if is_full && !subscriptions.contains(filter) {
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
        let place = Place { owner: self.index, slot: seat_slot, epoch: seat.epoch };
        let mut came = (0, 0);
        let strategy = self.clients[slot as usize].connection.limits().share_strategy;
        let retained = self.shared.router.retained.read().unwrap_or_else(PoisonError::into_inner);
        for (filter, options) in granted {
            let is_new = seat.session.subscriptions.insert(*filter, Subscription { options: *options, identifier });
            came.0 += usize::from(is_new);
            came.1 += usize::from(is_new && filter.is_shared());
            // 0: always, 1: only for a new subscription, 2: never [MQTT-3.3.1-9] to [MQTT-3.3.1-11].
            let is_wanted = options.retain_handling == 0 || (options.retain_handling == 1 && is_new);
            // Never for a shared subscription (section 4.8.2).
            if is_wanted && !filter.is_shared() && retained.may_match(*filter) {
                seat.replays.get_or_insert_default().add(*filter);
            }
        }
        drop(retained);
        self.count_subscriptions(came.0, came.1);
        let entry = |options: &SubscriptionOptions| Entry { place, options: *options, identifier };
        let plain = granted.iter().filter(|(filter, _)| !filter.is_shared());
        self.shared.router.subscribe(plain.map(|(filter, options)| (*filter, entry(options))));
        for (whole, options) in granted.iter().filter(|(filter, _)| filter.is_shared()) {
            self.join(seat_slot, *whole, entry(options), strategy);
        }
        self.go_on_replaying(seat_slot);
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
                    seat.replays.iter_mut().for_each(|replays| replays.remove(*filter));
                    removed.push(*filter);
                    ReasonCode::SUCCESS
                }
                Ok(_) => ReasonCode::NO_SUBSCRIPTION_EXISTED,
                Err(reason) => *reason,
            });
        }
        self.uncount_subscriptions(removed.len(), removed.iter().filter(|filter| filter.is_shared()).count());
        self.counts.unsubscribe_error += u64::from(reasons.iter().any(|reason| reason.is_error()));
        for whole in removed.iter().filter(|filter| filter.is_shared()) {
            self.leave_group(*whole, place);
        }
        self.shared.router.unsubscribe(removed.into_iter().filter(|filter| !filter.is_shared()), place);
        let properties = Properties::default();
        let unsuback = SubAck { packet_id: unsubscribe.packet_id, properties, reasons };
        self.counts.unsuback_sent += u64::from(self.send(slot, &Packet::UnsubAck(unsuback)));
    }

    /// Notes that sessions have so many subscriptions more, and how many of them are shared.
    fn count_subscriptions(&self, count: usize, shared: usize) {
        if count > 0 {
            self.shared.gauges.subscriptions.add(count as u64);
            self.shared.gauges.subscribers.add((count - shared) as u64);
        }
    }

    /// Notes that they have so many less.
    pub(super) fn uncount_subscriptions(&self, count: usize, shared: usize) {
        if count > 0 {
            self.shared.gauges.subscriptions.take(count as u64);
            self.shared.gauges.subscribers.take((count - shared) as u64);
        }
    }

    /// Notes what somebody was allowed, or not.
    #[inline]
    pub(super) fn count_verdict(&mut self, verdict: ReasonCode) {
        self.counts.client_acl_allow += u64::from(!verdict.is_error());
        self.counts.client_acl_deny += u64::from(verdict.is_error());
    }

    /// Whether the client may publish so; None: Python is being asked, the packet comes again with the answer.
    pub(super) fn may_publish(
        &mut self,
        slot: u32,
        publish: &Publish<'_>,
        topic: Topic<'_>,
        answer: Option<&[ReasonCode]>,
    ) -> Option<ReasonCode> {
        let now_ms = self.now.ms;
        let client = &mut self.clients[slot as usize];
        if client.is_superuser {
            return Some(ReasonCode::SUCCESS);
        }
        let epoch = self.shared.interest_epoch();
        let verdicts = client.verdicts.get_or_insert_default();
        if let Some(answer) = answer {
            // Asked before the hooks changed, it counts for this message only.
            if verdicts.epoch() == epoch {
                verdicts.remember(topic.as_str(), publish, answer[0], now_ms);
            }
            self.count_verdict(answer[0]);
            return Some(answer[0]);
        }
        verdicts.renew(epoch);
        if let Some(verdict) = verdicts.find(topic.as_str(), publish, now_ms) {
            self.counts.client_acl_cache_hit += 1;
            self.count_verdict(verdict);
            return Some(verdict);
        }
        let topics = vec![topic.as_str().into()];
        let (qos, retain) = (publish.qos as u8, publish.retain);
        self.ask_authorize(slot, Asked { action: Action::Publish, topics, qos, retain });
        None
    }

    fn ask_authorize(&mut self, slot: u32, asked: Asked) {
        self.counts.client_check_acl += asked.topics.len() as u64;
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
        self.park(slot, ticket, Question::Packet);
    }
}

/// What a subscription lets its client read: that does not depend on who shares it.
fn readable(filter: Filter<'_>) -> &str {
    Subscribed::new(filter).map_or(filter.as_str(), |subscribed| subscribed.filter.as_str())
}

/// What a question is about.
struct Asked {
    action: Action,
    topics: Vec<Box<str>>,
    qos: u8,
    retain: bool,
}
