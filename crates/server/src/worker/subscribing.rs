//! SUBSCRIBE and UNSUBSCRIBE; the questions about them and about publishes.
//!
//! Knows which filters are granted and with what; keeps the session's list and the routing table alike.

use std::sync::{Arc, PoisonError};

use whimbrel_protocol::packet::{Publish, SubAck, Subscribe, SubscriptionOptions, Unsubscribe};
use whimbrel_protocol::primitives::Decoded;
use whimbrel_protocol::properties::{Properties, id};
use whimbrel_protocol::session::subscriptions::Subscription;
use whimbrel_protocol::{Filter, QoS, ReasonCode, Subscribed, Topic, Violation};
use whimbrel_router::{Entry, Place};

use super::Worker;
use super::client::{End, Question};
use super::inbound::Step;
use super::refusing::Refusals;
use super::tidying::filter_bytes;
use crate::answer::Answer;
use crate::event::{Action, Authorize, Event};
use crate::shared::Interest;

/// What a filter that comes or goes costs, in deliveries.
const FILTER_EFFORT: usize = 8;

impl Worker {
    /// `answer`: the verdicts of the question that this packet asked when it came first.
    pub(super) fn on_subscribe(
        &mut self,
        slot: u32,
        subscribe: &Subscribe<'_>,
        answer: Option<&[Answer]>,
    ) -> Result<Step, End> {
        let is_fitting = self.check_codes_fit(slot, subscribe.filters.len());
        self.counts.subscribe_received += u64::from(is_fitting.is_err());
        is_fitting?;
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
    fn subscribe(&mut self, slot: u32, subscribe: &Subscribe<'_>, verdicts: &[Answer]) {
        self.counts.subscribe_received += 1;
        self.effort += FILTER_EFFORT * subscribe.filters.len();
        self.counts.client_subscribe += 1;
        let identifier = subscribe.properties.number(id::SUBSCRIPTION_IDENTIFIER).unwrap_or(0);
        let (mut new_count, mut refusals) = (0, Refusals::default());
        let mut granted = Vec::with_capacity(subscribe.filters.len());
        let mut reasons = Vec::with_capacity(subscribe.filters.len());
        for (place, (filter, options)) in subscribe.filters.iter().enumerate() {
            let verdict = verdicts.get(place).or(verdicts.last());
            verdict.into_iter().for_each(|verdict| self.count_verdict(verdict.reason));
            let denied = verdict.filter(|verdict| verdict.reason.is_error());
            let allowed = denied.map_or(*filter, |verdict| Err(verdict.reason)).map_err(in_short);
            let outcome = allowed.and_then(|filter| self.grant(slot, filter, *options, new_count));
            new_count += outcome.map_or(0, |(filter, _)| usize::from(self.is_new(slot, filter)));
            if let Err(refusal) = outcome {
                refusals.add(place, denied.map_or(refusal.what, Answer::told));
            }
            reasons.push(outcome.map_or_else(|refusal| refusal.reason, |(_, options)| ReasonCode(options.qos as u8)));
            granted.extend(outcome.ok());
        }
        self.count_refused(&reasons);
        self.keeper.begin();
        self.enter_filters(slot, &granted, identifier);
        let properties = Properties::default();
        // Where all is refused, because the store takes nothing perhaps, nothing is promised.
        let is_granted = reasons.iter().any(|reason| !reason.is_error());
        let suback = SubAck { packet_id: subscribe.packet_id, properties, reasons };
        if is_granted {
            self.promise(slot);
        }
        self.send_suback(slot, &suback, &refusals);
        self.keeper.begin();
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
    ) -> Decoded<(Filter<'a>, SubscriptionOptions)> {
        let connection = &self.clients[slot as usize].connection;
        let limits = Arc::clone(connection.limits());
        let qos = connection.granted(options.qos);
        if filter.is_shared() && !limits.is_shared_available {
            return Err(in_short(ReasonCode::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED));
        }
        let compared = Subscribed::new(filter)?.filter;
        if compared.has_wildcard() && !limits.is_wildcard_available {
            // SUBACK says it (section 3.9.3); the connection, whose other subscriptions are in order, goes on.
            return Err(in_short(ReasonCode::WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED));
        }
        if compared.level_count() > usize::from(limits.max_topic_levels) {
            return Err(Violation::new(ReasonCode::TOPIC_FILTER_INVALID, "more levels than max_topic_levels"));
        }
        if !self.may_read(slot, compared) {
            return Err(Violation::new(ReasonCode::NOT_AUTHORIZED, "the $SYS tree is not for this client"));
        }
        let Some(seat) = self.seat_of(slot) else {
            return Err(in_short(ReasonCode::UNSPECIFIED_ERROR));
        };
        let (subscriptions, is_durable) = (&seat.session.subscriptions, seat.durable != 0);
        let is_full = subscriptions.len() + new_count >= limits.max_subscriptions as usize;
        if is_full && !subscriptions.contains(filter) {
            return Err(Violation::new(ReasonCode::QUOTA_EXCEEDED, "more subscriptions than max_subscriptions"));
        }
        if is_durable && self.shortage.is_refusing() {
            self.counts.storage_refused += 1;
            return Err(Violation::new(ReasonCode::QUOTA_EXCEEDED, super::shortage::TOLD));
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
        let mut replayed = Vec::new();
        for (filter, options) in granted {
            let is_new = seat.session.subscriptions.insert(*filter, Subscription { options: *options, identifier });
            came.0 += usize::from(is_new);
            came.1 += usize::from(is_new && filter.is_shared());
            // 0: always, 1: only for a new subscription, 2: never [MQTT-3.3.1-9] to [MQTT-3.3.1-11].
            let is_wanted = options.retain_handling == 0 || (options.retain_handling == 1 && is_new);
            // Never for a shared subscription (section 4.8.2).
            replayed.extend(Some(*filter).filter(|filter| is_wanted && !filter.is_shared()));
        }
        let durable = seat.durable;
        self.count_subscriptions(came.0, came.1);
        let entry = |options: &SubscriptionOptions| Entry { place, options: *options, identifier, durable };
        let plain = granted.iter().filter(|(filter, _)| !filter.is_shared());
        self.shared.router.subscribe(plain.map(|(filter, options)| (*filter, entry(options))));
        for (whole, options) in granted.iter().filter(|(filter, _)| filter.is_shared()) {
            self.join(seat_slot, *whole, entry(options), strategy);
        }
        // Only now: a message that was retained before this look is found by it, and one that is retained later is routed
        // by a table that has these filters.
        self.replay_matching(seat_slot, &replayed);
        granted.iter().for_each(|(filter, _)| self.put_filter(seat_slot, *filter));
    }

    /// What is retained for these filters is sent, where there may be something.
    fn replay_matching(&mut self, seat_slot: u32, filters: &[Filter<'_>]) {
        let Some(seat) = self.sessions.get_mut(seat_slot) else { return };
        let retained = self.shared.router.retained.read().unwrap_or_else(PoisonError::into_inner);
        for filter in filters.iter().filter(|filter| retained.may_match(**filter)) {
            seat.replays.get_or_insert_default().add(*filter);
        }
        drop(retained);
        self.go_on_replaying(seat_slot);
    }

    pub(super) fn on_unsubscribe(&mut self, slot: u32, unsubscribe: &Unsubscribe<'_>) -> Result<(), End> {
        self.counts.unsubscribe_received += 1;
        self.check_codes_fit(slot, unsubscribe.filters.len())?;
        self.unsubscribe(slot, unsubscribe);
        Ok(())
    }

    fn unsubscribe(&mut self, slot: u32, unsubscribe: &Unsubscribe<'_>) {
        self.effort += FILTER_EFFORT * unsubscribe.filters.len();
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
        let mut refusals = Refusals::default();
        for (place, filter) in unsubscribe.filters.iter().enumerate() {
            reasons.push(match filter {
                Ok(filter) if seat.session.subscriptions.remove(*filter) => {
                    seat.replays.iter_mut().for_each(|replays| replays.remove(*filter));
                    removed.push(*filter);
                    ReasonCode::SUCCESS
                }
                Ok(_) => ReasonCode::NO_SUBSCRIPTION_EXISTED,
                Err(reason) => {
                    refusals.add(place, reason.text());
                    *reason
                }
            });
        }
        self.keeper.begin();
        removed.iter().for_each(|filter| self.put_filter(seat_slot, *filter));
        self.uncount_subscriptions(removed.len(), removed.iter().filter(|filter| filter.is_shared()).count());
        self.counts.memory_released += removed.iter().map(|filter| filter_bytes(filter.as_str())).sum::<u64>();
        self.counts.unsubscribe_error += u64::from(reasons.iter().any(|reason| reason.is_error()));
        for whole in removed.iter().filter(|filter| filter.is_shared()) {
            self.leave_group(*whole, place);
        }
        self.shared.router.unsubscribe(removed.into_iter().filter(|filter| !filter.is_shared()), place);
        let properties = Properties::default();
        let unsuback = SubAck { packet_id: unsubscribe.packet_id, properties, reasons };
        self.promise(slot);
        self.send_unsuback(slot, &unsuback, &refusals);
        self.keeper.begin();
    }

    /// Notes that sessions have so many subscriptions more, and how many of them are shared.
    pub(super) fn count_subscriptions(&self, count: usize, shared: usize) {
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
        answer: Option<&[Answer]>,
    ) -> Option<ReasonCode> {
        let now_ms = self.now.ms;
        if self.clients[slot as usize].is_superuser || self.is_taken(slot, publish) {
            return Some(ReasonCode::SUCCESS);
        }
        let client = &mut self.clients[slot as usize];
        let epoch = self.shared.interest_epoch();
        let verdicts = client.verdicts.get_or_insert_default();
        if let Some(answer) = answer {
            // Asked before the hooks changed, it counts for this message only.
            if verdicts.epoch() == epoch {
                verdicts.remember(topic.as_str(), publish, &answer[0], now_ms);
            }
            self.count_verdict(answer[0].reason);
            return Some(answer[0].reason);
        }
        verdicts.renew(epoch);
        if let Some(verdict) = verdicts.find(topic.as_str(), publish, now_ms).map(|verdict| verdict.reason) {
            self.counts.client_acl_cache_hit += 1;
            self.count_verdict(verdict);
            return Some(verdict);
        }
        let topics = vec![topic.as_str().into()];
        let (qos, retain) = (publish.qos as u8, publish.retain);
        self.ask_authorize(slot, Asked { action: Action::Publish, topics, qos, retain });
        None
    }

    /// Whether the PUBLISH repeats a QoS 2 message that was routed. An error in its PUBREC would free the identifier on both
    /// sides, and where that PUBREC gets lost, the next repetition would be routed again [MQTT-4.3.3-10].
    pub(super) fn is_taken(&mut self, slot: u32, publish: &Publish<'_>) -> bool {
        publish.qos == QoS::ExactlyOnce
            && self.seat_of(slot).is_some_and(|seat| seat.session.inbound.holds(publish.packet_id))
    }

    /// The words of the hook that refused a publish, now or before.
    #[cold]
    pub(super) fn words_about(
        &self,
        slot: u32,
        publish: &Publish<'_>,
        topic: Topic<'_>,
        answer: Option<&[Answer]>,
    ) -> Option<Arc<str>> {
        let verdicts = self.clients[slot as usize].verdicts.as_ref();
        let known = || verdicts.and_then(|verdicts| verdicts.find(topic.as_str(), publish, self.now.ms));
        answer.map(|answers| &answers[0]).or_else(known)?.words.clone()
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

/// A refusal that its code says enough about.
fn in_short(reason: ReasonCode) -> Violation {
    Violation::new(reason, reason.text())
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
