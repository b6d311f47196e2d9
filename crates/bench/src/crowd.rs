//! Many clients that only connect, rest and ping: what each of that costs and takes, and a client's memory.
//!
//! The broker's process should be fresh where memory is asked for. At the end the clients say goodbye and the broker
//! closes, so that no port of ours stays occupied for the next run.

use std::time::Duration;

use whimbrel_protocol::{Packet, ReasonCode};

use crate::broker::Broker;
use crate::clients::{Clients, Player, Stay};
use crate::failure::Outcome;
use crate::histogram::Histogram;
use crate::live::{Live, Phase, Snapshot};
use crate::options::{ConnectOptions, Options};
use crate::report::{Report, version_name};
use crate::schedule::Schedule;
use crate::supply::SETTLE;

const PATIENCE: Duration = Duration::from_secs(60);
/// Connections opened between two looks at the sockets, where an open loop is behind.
const BURST_MAX: usize = 64;

struct Crowd<'a> {
    options: &'a Options,
    plan: &'a ConnectOptions,
    live: &'a Live,
    /// Of each client: when it was due or opened.
    since_ns: Vec<u64>,
    latency: Histogram,
    pongs: usize,
    others: u64,
}

/// Makes one run.
pub fn run(options: &Options, plan: &ConnectOptions, live: &Live) -> Outcome<Report> {
    let broker = Broker::new(options.broker_pid);
    let mut clients = Clients::new(options, 0)?;
    let mut report = Report::new("connect");
    report.text("mqtt", Some(&version_name(options.version).to_owned()));
    let mut crowd = Crowd { options, plan, live, since_ns: Vec::new(), latency: Histogram::new(), pongs: 0, others: 0 };
    live.enter(Phase::Measuring);
    let rss_bytes = broker.rss_bytes()?;
    crowd.arrive(&mut clients, &broker, &mut report)?;
    if broker.is_visible() {
        crowd.rest(&mut clients, SETTLE)?;
        report.put("rss_bytes_per_client", (broker.rss_bytes()? - rss_bytes) / clients.greeted as f64);
    }
    crowd.hold(&mut clients, &broker, &mut report)?;
    crowd.ping(&mut clients, &broker, &mut report)?;
    report.count("refused", clients.turned_away as u64 + crowd.others);
    report.count("unanswered", (clients.count() - clients.settled()) as u64);
    report.count("closed_by_broker", clients.closed as u64);
    report.text("first_refusal", clients.first_refusal.as_ref());
    live.enter(Phase::Draining);
    crowd.leave(&mut clients, &broker, &mut report)?;
    Ok(report)
}

impl Crowd<'_> {
    fn arrive(&mut self, clients: &mut Clients, broker: &Broker, report: &mut Report) -> Outcome<()> {
        let before = broker.read()?;
        match self.plan.rate {
            0.0 => self.arrive_in_turns(clients)?,
            rate => self.arrive_on_time(clients, rate)?,
        }
        let live = self.live;
        clients.run_until(self, PATIENCE, |_, clients| clients.settled() == clients.count() || live.is_stopping())?;
        self.tell(clients);
        let span = broker.read()?.since(before);
        let all = clients.greeted as f64;
        report.count("clients", clients.greeted as u64);
        report.put("seconds", span.seconds);
        report.put("connects_per_s", all / span.seconds);
        report.put("cpu_us_per_connect", span.broker_cpu_s * 1e6 / all);
        report.put("load_us_per_connect", span.own_cpu_s * 1e6 / all);
        report.percentiles("latency", &self.latency);
        Ok(())
    }

    /// Closed loop: at most `concurrency` on their way in.
    fn arrive_in_turns(&mut self, clients: &mut Clients) -> Outcome<()> {
        let (live, limit) = (self.live, self.plan.concurrency);
        while clients.count() < self.plan.clients && !live.is_stopping() {
            self.since_ns.push(clients.look());
            clients.open(self.options, Stay::Passing)?;
            let has_room = clients.run_until(self, PATIENCE, |_, clients| {
                clients.count() - clients.settled() < limit || live.is_stopping()
            })?;
            self.tell(clients);
            if !has_room {
                return Err(format!("{} clients connected, then nothing for {PATIENCE:?}", clients.greeted).into());
            }
        }
        Ok(())
    }

    /// Open loop: each when it is due, however many are on their way in.
    fn arrive_on_time(&mut self, clients: &mut Clients, rate: f64) -> Outcome<()> {
        let mut schedule = Schedule::new(clients.look(), rate, 1, self.plan.clients as u64);
        while let Some(next_ns) = schedule.next_ns().filter(|_| !self.live.is_stopping()) {
            for _ in 0..BURST_MAX {
                if schedule.take_due(clients.now_ns()).is_none() {
                    break;
                }
                self.since_ns.push(schedule.due_ns(0, clients.count() as u64));
                clients.open(self.options, Stay::Passing)?;
            }
            clients.wait_until(self, next_ns)?;
            self.tell(clients);
        }
        Ok(())
    }

    fn hold(&mut self, clients: &mut Clients, broker: &Broker, report: &mut Report) -> Outcome<()> {
        if self.plan.hold.is_zero() {
            return Ok(());
        }
        let before = broker.read()?;
        self.rest(clients, self.plan.hold)?;
        let span = broker.read()?.since(before);
        report.put("hold_seconds", span.seconds);
        report.put("idle_cpu_ms_per_s", span.broker_cpu_s * 1e3 / span.seconds);
        Ok(())
    }

    fn rest(&mut self, clients: &mut Clients, span: Duration) -> Outcome<()> {
        let live = self.live;
        clients.run_until(self, span, |_, _| live.is_stopping())?;
        Ok(())
    }

    /// Everybody pings and is answered, so many times.
    fn ping(&mut self, clients: &mut Clients, broker: &Broker, report: &mut Report) -> Outcome<()> {
        let (live, all) = (self.live, clients.greeted);
        let before = broker.read()?;
        let mut pings = 0;
        for _ in 0..self.plan.pings {
            if live.is_stopping() {
                break;
            }
            pings += all;
            (0..clients.count()).for_each(|client| clients.send(client, &Packet::PingReq));
            clients.run_until(self, PATIENCE, |crowd, _| crowd.pongs == pings || live.is_stopping())?;
        }
        let span = broker.read()?.since(before);
        report.put("cpu_us_per_ping", span.broker_cpu_s * 1e6 / pings as f64);
        if self.plan.pings > 0 {
            report.count("pings_missing", (pings - self.pongs) as u64);
        }
        Ok(())
    }

    fn leave(&mut self, clients: &mut Clients, broker: &Broker, report: &mut Report) -> Outcome<()> {
        let live = self.live;
        let before = broker.read()?;
        clients.leave()?;
        clients.run_until(self, self.options.patience, |_, clients| {
            clients.closed == clients.count() || live.is_abandoned()
        })?;
        let span = broker.read()?.since(before);
        report.put("cpu_us_per_disconnect", span.broker_cpu_s * 1e6 / clients.greeted as f64);
        report.count("not_closed", (clients.count() - clients.closed) as u64);
        Ok(())
    }

    fn tell(&self, clients: &Clients) {
        if clients.count().is_multiple_of(16) || clients.count() == self.plan.clients {
            self.live.tell(&Snapshot {
                connected: clients.greeted as u64,
                sent: clients.count() as u64,
                acknowledged: clients.settled() as u64,
                delivered: 0,
                p50_ns: self.latency.quantile_ns(0.5).unwrap_or(0),
                p99_ns: self.latency.quantile_ns(0.99).unwrap_or(0),
            });
        }
    }
}

impl Player for Crowd<'_> {
    fn on_packet(&mut self, clients: &mut Clients, client: usize, packet: Packet<'_>) -> Outcome<()> {
        match packet {
            Packet::ConnAck(answer) if answer.reason == ReasonCode::SUCCESS => {
                self.latency.record(clients.now_ns().saturating_sub(self.since_ns[client]));
            }
            Packet::ConnAck(_) => {}
            Packet::PingResp => self.pongs += 1,
            _ => self.others += 1,
        }
        Ok(())
    }
}
