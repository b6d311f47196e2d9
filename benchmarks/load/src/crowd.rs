//! Many clients that only connect, rest, ping and subscribe: what each of that costs, and a client's memory.
//!
//! The broker's process should be fresh where memory is asked for. At the end the clients say goodbye and the broker
//! closes, so that no port of ours stays occupied for the next run.

use std::thread::sleep;
use std::time::Duration;

use whimbrel_protocol::packet::Disconnect;
use whimbrel_protocol::properties::Properties;
use whimbrel_protocol::reason::ReasonCode;
use whimbrel_protocol::{Packet, QoS};

use crate::arguments::Arguments;
use crate::broker::{Broker, Span};
use crate::clients::{Clients, Player};
use crate::failure::Outcome;
use crate::report::Report;

const PATIENCE: Duration = Duration::from_secs(60);
/// Before memory is read: late frees and the broker's own housekeeping are over.
const SETTLE: Duration = Duration::from_millis(500);

struct Plan {
    port: u16,
    broker: Broker,
    clients: usize,
    concurrency: usize,
    hold: Duration,
    pings: usize,
    subscribes: usize,
}

struct Exchange {
    span: Span,
    count: f64,
    missing: f64,
}

#[derive(Default)]
struct Crowd {
    greeted: usize,
    refused: u64,
    answers: usize,
}

/// Makes one run.
pub fn run(arguments: Arguments) -> Outcome<Report> {
    let plan = Plan::new(arguments)?;
    let mut clients = Clients::new(plan.port)?;
    let mut crowd = Crowd::default();
    let mut report = Report::default();
    let rss_bytes = plan.broker.rss_bytes()?;
    plan.arrive(&mut clients, &mut crowd, &mut report)?;
    sleep(SETTLE);
    report.put("rss_bytes_per_client", (plan.broker.rss_bytes()? - rss_bytes) / plan.clients as f64);
    plan.rest(&mut report)?;
    plan.ping(&mut clients, &mut crowd, &mut report)?;
    plan.subscribe(&mut clients, &mut crowd, &mut report)?;
    report.count("refused", crowd.refused);
    report.count("closed_by_broker", clients.closed as u64);
    plan.leave(&mut clients, &mut crowd, &mut report)?;
    Ok(report)
}

impl Plan {
    fn new(mut arguments: Arguments) -> Outcome<Plan> {
        let plan = Plan {
            port: arguments.take("port", 1883, 1..=u16::MAX)?,
            broker: Broker::new(arguments.take("broker-pid", 0, 1..=u32::MAX)?),
            clients: arguments.take("clients", 5_000, 1..=1_000_000)?,
            concurrency: arguments.take("concurrency", 64, 1..=10_000)?,
            hold: Duration::from_secs_f64(arguments.take("hold", 0.0, 0.0..=3600.0)?),
            pings: arguments.take("pings", 0, 0..=1_000)?,
            subscribes: arguments.take("subscribes", 0, 0..=1_000)?,
        };
        arguments.finish()?;
        Ok(plan)
    }

    fn arrive(&self, clients: &mut Clients, crowd: &mut Crowd, report: &mut Report) -> Outcome<()> {
        let before = self.broker.read()?;
        while clients.count() < self.clients {
            clients.open(&format!("crowd-{}-{}", std::process::id(), clients.count()))?;
            let limit = self.concurrency;
            if !clients.run_until(crowd, PATIENCE, |crowd, clients| clients.count() - crowd.greeted < limit)? {
                return Err(format!("{} clients connected, then nothing for {PATIENCE:?}", crowd.greeted).into());
            }
        }
        let all = self.clients;
        if !clients.run_until(crowd, PATIENCE, |crowd, _| crowd.greeted == all)? {
            return Err(format!("{} of {all} clients were let in", crowd.greeted).into());
        }
        let span = self.broker.read()?.since(before);
        report.count("clients", all as u64);
        report.put("seconds", span.seconds);
        report.put("connects_per_s", all as f64 / span.seconds);
        report.put("cpu_us_per_connect", span.broker_cpu_s * 1e6 / all as f64);
        report.put("load_us_per_connect", span.own_cpu_s * 1e6 / all as f64);
        Ok(())
    }

    fn rest(&self, report: &mut Report) -> Outcome<()> {
        if self.hold.is_zero() {
            return Ok(());
        }
        let before = self.broker.read()?;
        sleep(self.hold);
        let span = self.broker.read()?.since(before);
        report.put("idle_cpu_ms_per_s", span.broker_cpu_s * 1e3 / span.seconds);
        Ok(())
    }

    fn ping(&self, clients: &mut Clients, crowd: &mut Crowd, report: &mut Report) -> Outcome<()> {
        let send = |clients: &mut Clients, client| {
            clients.send(client, &Packet::PingReq);
            Ok(())
        };
        let exchange = self.exchange(clients, crowd, self.pings, send)?;
        report.put("cpu_us_per_ping", exchange.span.broker_cpu_s * 1e6 / exchange.count);
        report.put("pings_missing", exchange.missing);
        Ok(())
    }

    fn subscribe(&self, clients: &mut Clients, crowd: &mut Crowd, report: &mut Report) -> Outcome<()> {
        let send = |clients: &mut Clients, client| clients.subscribe(client, "crowd/+/news", QoS::AtMostOnce);
        let exchange = self.exchange(clients, crowd, self.subscribes, send)?;
        report.put("subscribes_per_s", exchange.count / exchange.span.seconds);
        report.put("cpu_us_per_subscribe", exchange.span.broker_cpu_s * 1e6 / exchange.count);
        report.put("subscribes_missing", exchange.missing);
        Ok(())
    }

    /// Everybody sends and is answered, so many times.
    fn exchange(
        &self,
        clients: &mut Clients,
        crowd: &mut Crowd,
        times: usize,
        send: impl Fn(&mut Clients, usize) -> Outcome<()>,
    ) -> Outcome<Exchange> {
        let before = self.broker.read()?;
        crowd.answers = 0;
        for round in 1..=times {
            (0..self.clients).try_for_each(|client| send(clients, client))?;
            clients.run_until(crowd, PATIENCE, |crowd, _| crowd.answers == round * self.clients)?;
        }
        let span = self.broker.read()?.since(before);
        let count = times * self.clients;
        Ok(Exchange { span, count: count as f64, missing: (count - crowd.answers) as f64 })
    }

    fn leave(&self, clients: &mut Clients, crowd: &mut Crowd, report: &mut Report) -> Outcome<()> {
        let goodbye = Disconnect { reason: ReasonCode::SUCCESS, properties: Properties::default() };
        let before = self.broker.read()?;
        (0..self.clients).for_each(|client| clients.send(client, &Packet::Disconnect(goodbye)));
        clients.run_until(crowd, PATIENCE, |_, clients| clients.closed == clients.count())?;
        let span = self.broker.read()?.since(before);
        report.put("cpu_us_per_disconnect", span.broker_cpu_s * 1e6 / self.clients as f64);
        report.count("not_closed", (clients.count() - clients.closed) as u64);
        Ok(())
    }
}

impl Player for Crowd {
    fn on_packet(&mut self, _clients: &mut Clients, _client: usize, packet: Packet<'_>) -> Outcome<()> {
        match packet {
            Packet::ConnAck(answer) if answer.reason == ReasonCode::SUCCESS => self.greeted += 1,
            Packet::PingResp | Packet::SubAck(_) => self.answers += 1,
            _ => self.refused += 1,
        }
        Ok(())
    }
}
