//! What a broker does wrong is reported, to the message; what it does slowly is not hidden.

mod fake;

use std::time::Duration;

use fake::{Fate, broker};
use whimbrel_bench::{
    ConnectOptions, FillOptions, FlowOptions, Live, Measure, Options, Pattern, Report, Scenario, SubscribeOptions, run,
};
use whimbrel_protocol::{QoS, Version};

fn options(port: u16, scenario: Scenario) -> Options {
    Options {
        host: "127.0.0.1".to_owned(),
        port,
        unix: None,
        tls: None,
        websocket: None,
        sources: Vec::new(),
        version: Version::V5,
        username: None,
        password: None,
        client_prefix: "test".to_owned(),
        broker_pid: None,
        run: 1,
        patience: Duration::from_millis(800),
        scenario,
    }
}

fn pair(qos: QoS, count: u64) -> FlowOptions {
    FlowOptions {
        pattern: Pattern::Pair,
        publishers: 1,
        subscribers: 1,
        qos,
        lasting: false,
        retain: false,
        payload_bytes: 32,
        window: 16,
        rate: 0.0,
        warm: Duration::ZERO,
        measure: Duration::from_secs(1),
        count: Some(count),
        topic: String::new(),
    }
}

fn ran(fate: fn(u64) -> Fate, plan: FlowOptions) -> Report {
    run(&options(broker(fate), Scenario::Flow(plan)), &Live::default()).unwrap()
}

fn counts<const N: usize>(report: &Report, names: [&str; N]) -> [u64; N] {
    names.map(|name| report.get_count(name).unwrap_or_else(|| panic!("{name} is not in {report:?}")))
}

fn value(report: &Report, name: &str) -> f64 {
    let found = report.measures().iter().find(|(put, _)| put == name);
    match found {
        Some((_, Measure::Value(value))) => *value,
        other => panic!("{name}: {other:?}"),
    }
}

const FAULTS: [&str; 5] = ["lost", "duplicated", "out_of_order", "refused", "unacknowledged"];

fn lossy(number: u64) -> Fate {
    match number {
        number if number.is_multiple_of(10) => Fate::Lost,
        number if number.is_multiple_of(7) => Fate::Doubled,
        _ => Fate::Arrives,
    }
}

#[test]
fn what_is_lost_and_doubled_is_counted_to_the_message() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let report = ran(lossy, pair(qos, 10_000));
        let doubled = 10_000 / 7 - 10_000 / 70;
        assert_eq!(counts(&report, FAULTS), [1_000, doubled, 0, 0, 0], "{qos:?}");
        assert_eq!(counts(&report, ["sent", "delivered", "foreign"]), [10_000, 9_000, 0]);
    }
}

#[test]
fn what_is_lost_in_an_open_loop_is_counted_too() {
    let plan = FlowOptions { rate: 20_000.0, ..pair(QoS::AtLeastOnce, 5_000) };
    let report = ran(lossy, plan);
    assert_eq!(counts(&report, FAULTS), [500, 5_000 / 7 - 5_000 / 70, 0, 0, 0]);
}

#[test]
fn a_healthy_broker_has_no_faults() {
    let report = ran(|_| Fate::Arrives, pair(QoS::AtLeastOnce, 3_000));
    assert_eq!(counts(&report, FAULTS), [0; 5]);
    assert_eq!(counts(&report, ["delivered", "acknowledged", "stalls", "closed_by_broker"]), [3_000, 3_000, 0, 0]);
    assert!(value(&report, "latency_p50_us") <= value(&report, "latency_max_us"));
}

#[test]
fn a_repeat_that_comes_behind_everything_else_is_counted() {
    let last = |number: u64| if number == 2_000 { Fate::Haunts } else { Fate::Arrives };
    assert_eq!(counts(&ran(last, pair(QoS::AtLeastOnce, 2_000)), FAULTS), [0, 1, 0, 0, 0]);
    for scenario in [Scenario::Offline(FILL), Scenario::Retained(FILL)] {
        let report = run(&options(broker(last), scenario), &Live::default()).unwrap();
        assert_eq!(counts(&report, ["lost", "duplicated"]), [0, 2], "{report:?}");
    }
}

#[test]
fn what_is_overtaken_is_out_of_order_and_not_lost() {
    let every_tenth = |number: u64| if number % 10 == 5 { Fate::Overtaken } else { Fate::Arrives };
    let report = ran(every_tenth, pair(QoS::AtMostOnce, 1_000));
    assert_eq!(counts(&report, FAULTS), [0, 0, 100, 0, 0]);
}

#[test]
fn what_the_broker_refuses_is_not_lost() {
    let every_fifth = |number: u64| if number.is_multiple_of(5) { Fate::Refused(0x97) } else { Fate::Arrives };
    let report = ran(every_fifth, pair(QoS::AtLeastOnce, 1_000));
    assert_eq!(counts(&report, FAULTS), [0, 0, 0, 200, 0]);
    let first = Measure::Text("quota exceeded (0x97)".to_owned());
    assert!(report.measures().contains(&("first_refusal".to_owned(), first)));
}

#[test]
fn a_window_of_lost_messages_is_given_up_so_that_the_run_goes_on() {
    let plan = FlowOptions { window: 4, ..pair(QoS::AtMostOnce, 8) };
    let report = ran(|number| if number <= 4 { Fate::Lost } else { Fate::Arrives }, plan);
    assert_eq!(counts(&report, ["lost", "delivered", "stalls"]), [4, 4, 1]);
}

#[test]
fn a_closed_connection_ends_a_counted_run() {
    let report = ran(|number| if number == 50 { Fate::Hangs } else { Fate::Arrives }, pair(QoS::AtMostOnce, 10_000));
    let [closed, lost] = counts(&report, ["closed_by_broker", "lost"]);
    assert_eq!(closed, 1);
    assert!(lost >= 1, "{report:?}");
}

/// A stall of 300 ms, a quarter into the run.
fn stalling(number: u64) -> Fate {
    if number == 250 { Fate::Stalls(Duration::from_millis(300)) } else { Fate::Arrives }
}

#[test]
fn a_stall_shows_in_an_open_loop_in_everything_that_was_due_meanwhile() {
    let plan = FlowOptions { rate: 1_000.0, ..pair(QoS::AtMostOnce, 1_000) };
    let report = ran(stalling, plan);
    // 300 of 1,000 messages fell due during the stall, with latencies evenly from 300 ms down to 0.
    assert!(value(&report, "latency_max_us") >= 299_000.0, "{report:?}");
    assert!(value(&report, "latency_p90_us") >= 150_000.0, "{report:?}");
    assert_eq!(counts(&report, ["lost", "unsent"]), [0, 0]);
}

#[test]
fn a_closed_loop_shows_the_same_stall_once() {
    let plan = FlowOptions { window: 1, ..pair(QoS::AtMostOnce, 1_000) };
    let report = ran(stalling, plan);
    assert!(value(&report, "latency_max_us") >= 299_000.0);
    assert!(value(&report, "latency_p99_us") < 150_000.0, "it is blind to what it did not send: {report:?}");
}

#[test]
fn publishing_alone_times_the_acknowledgements() {
    let plan = FlowOptions {
        pattern: Pattern::Publish,
        subscribers: 0,
        payload_bytes: 0,
        topic: "t/{run}/{client}".to_owned(),
        ..pair(QoS::AtLeastOnce, 1_000)
    };
    let report = ran(stalling, plan);
    assert_eq!(counts(&report, ["sent", "acknowledged", "refused", "unacknowledged"]), [1_000, 1_000, 0, 0]);
    assert!(value(&report, "latency_max_us") >= 299_000.0);
}

fn share(count: u64) -> FlowOptions {
    FlowOptions { pattern: Pattern::Share, publishers: 2, subscribers: 3, ..pair(QoS::AtLeastOnce, count) }
}

#[test]
fn a_group_gets_every_message_once_and_its_members_need_not_agree_on_an_order() {
    let report = ran(|_| Fate::Arrives, share(3_000));
    assert_eq!(counts(&report, FAULTS), [0; 5]);
    assert_eq!(counts(&report, ["delivered", "expected_in_all"]), [3_000, 3_000]);
}

#[test]
fn what_a_group_loses_or_gets_twice_is_counted_to_the_message() {
    let report = ran(lossy, share(10_000));
    assert_eq!(counts(&report, FAULTS), [1_000, 10_000 / 7 - 10_000 / 70, 0, 0, 0]);
}

const FILL: FillOptions = FillOptions {
    messages: 2_000,
    receivers: 2,
    qos: QoS::AtLeastOnce,
    receive_qos: QoS::AtLeastOnce,
    payload_bytes: 32,
    window: 16,
};
const DOUBLED: u64 = 2_000 / 7 - 2_000 / 70;

#[test]
fn retained_messages_reach_who_subscribes_later() {
    let report = run(&options(broker(|_| Fate::Arrives), Scenario::Retained(FILL)), &Live::default()).unwrap();
    let faults = ["lost", "duplicated", "foreign", "refused", "unacknowledged", "closed_by_broker"];
    assert_eq!(counts(&report, faults), [0; 6]);
    assert_eq!(counts(&report, ["stored", "delivered"]), [2_000, 4_000]);
    assert!(report.get_count("out_of_order").is_none(), "a store has no order");
}

#[test]
fn what_a_store_loses_or_sends_twice_is_counted_to_the_message() {
    let report = run(&options(broker(lossy), Scenario::Retained(FILL)), &Live::default()).unwrap();
    assert_eq!(counts(&report, ["stored", "delivered", "lost", "duplicated"]), [2_000, 3_600, 400, 2 * DOUBLED]);
}

#[test]
fn retained_messages_are_cleared_and_sessions_removed() {
    let port = broker(|_| Fate::Arrives);
    for scenario in [Scenario::Retained(FILL), Scenario::Offline(FILL), Scenario::Retained(FILL)] {
        let report = run(&options(port, scenario), &Live::default()).unwrap();
        assert_eq!(counts(&report, ["lost", "duplicated"]), [0; 2], "nothing of the run before is there: {report:?}");
    }
}

#[test]
fn what_waited_for_a_session_comes_once_and_in_order() {
    let report = run(&options(broker(|_| Fate::Arrives), Scenario::Offline(FILL)), &Live::default()).unwrap();
    assert_eq!(counts(&report, FAULTS), [0; 5]);
    assert_eq!(counts(&report, ["queued", "drained", "closed_by_broker"]), [4_000, 4_000, 0]);
}

#[test]
fn what_a_queue_loses_doubles_or_reorders_is_counted_to_the_message() {
    let report = run(&options(broker(lossy), Scenario::Offline(FILL)), &Live::default()).unwrap();
    assert_eq!(counts(&report, FAULTS), [400, 2 * DOUBLED, 0, 0, 0]);
    let every_tenth = |number: u64| if number % 10 == 5 { Fate::Overtaken } else { Fate::Arrives };
    let report = run(&options(broker(every_tenth), Scenario::Offline(FILL)), &Live::default()).unwrap();
    assert_eq!(counts(&report, FAULTS), [0, 0, 400, 0, 0]);
}

#[test]
fn subscribers_with_lasting_sessions_leave_none_behind() {
    let port = broker(|_| Fate::Arrives);
    for _ in 0..2 {
        let plan = FlowOptions { lasting: true, ..pair(QoS::AtLeastOnce, 1_000) };
        let report = run(&options(port, Scenario::Flow(plan)), &Live::default()).unwrap();
        assert_eq!(counts(&report, FAULTS), [0; 5], "a session that stays would get everything too: {report:?}");
        assert!(value(&report, "ack_p99_us") > 0.0);
    }
}

#[test]
fn messages_flow_past_the_filters_and_again_without_them() {
    let plan = SubscribeOptions {
        clients: 2,
        subscriptions: 10,
        batch: 10,
        qos: QoS::AtMostOnce,
        rate: 0.0,
        hold: Duration::ZERO,
        filters: vec!["a/{client}/{number}".to_owned(), "b/{client}/{number}/#".to_owned()],
        flow: Duration::from_millis(400),
    };
    let report = run(&options(broker(|_| Fate::Arrives), Scenario::Subscribe(plan)), &Live::default()).unwrap();
    assert_eq!(counts(&report, ["subscriptions", "lost", "duplicated", "refused"]), [20, 0, 0, 0]);
    assert!(value(&report, "past_delivered_per_s") > 0.0 && value(&report, "bare_delivered_per_s") > 0.0);
}

#[test]
fn clients_that_connect_and_subscribe_are_counted_and_timed() {
    let port = broker(|_| Fate::Arrives);
    let plan = ConnectOptions { clients: 40, concurrency: 8, rate: 0.0, hold: Duration::ZERO, pings: 0 };
    let report = run(&options(port, Scenario::Connect(plan)), &Live::default()).unwrap();
    assert_eq!(counts(&report, ["clients", "refused", "closed_by_broker", "not_closed"]), [40, 0, 0, 0]);
    let plan = SubscribeOptions {
        clients: 5,
        subscriptions: 7,
        batch: 3,
        qos: QoS::AtMostOnce,
        rate: 2_000.0,
        hold: Duration::ZERO,
        filters: vec!["{client}/{number}".to_owned()],
        flow: Duration::ZERO,
    };
    let report = run(&options(port, Scenario::Subscribe(plan)), &Live::default()).unwrap();
    assert_eq!(counts(&report, ["subscriptions", "refused", "unacknowledged"]), [35, 0, 0]);
    assert!(value(&report, "latency_p99_us") > 0.0);
}

#[test]
fn a_stopped_run_reports_what_it_has() {
    let port = broker(|_| Fate::Arrives);
    let live = Live::default();
    let plan = FlowOptions { count: None, measure: Duration::from_secs(600), ..pair(QoS::AtLeastOnce, 1) };
    let report = std::thread::scope(|scope| {
        let running = scope.spawn(|| run(&options(port, Scenario::Flow(plan)), &live).unwrap());
        while live.snapshot().delivered == 0 {
            std::thread::yield_now();
        }
        live.stop();
        running.join().unwrap()
    });
    assert_eq!(counts(&report, FAULTS), [0; 5]);
    assert!(report.get_count("delivered") > Some(0));
}

#[test]
fn an_option_out_of_range_is_told_before_anything_happens() {
    let plan = FlowOptions { window: 0, ..pair(QoS::AtMostOnce, 1) };
    let failure = run(&options(1, Scenario::Flow(plan)), &Live::default()).unwrap_err();
    assert!(failure.is_mistake);
    assert_eq!(failure.sentence, "window: found 0, allowed is 1..=32768");
}

#[test]
fn without_a_broker_the_address_is_named() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let failure = run(&options(port, Scenario::Flow(pair(QoS::AtMostOnce, 1))), &Live::default()).unwrap_err();
    assert!(!failure.is_mistake);
    assert!(failure.sentence.starts_with(&format!("cannot connect to 127.0.0.1:{port}: ")), "{failure}");
}
