//! Clients that read nothing: what is kept for them is bounded, and others do not notice.
//!
//! Knows the limits of a zone and the memory of this process, which is why it is alone in its binary.

mod house;

use house::{House, PATIENCE, Wire, until};
use whimbrel_protocol::{Limits, QoS, Version};
use whimbrel_server::event::ClientRecord;

const OUTBOX_BYTES: usize = 64 * 1024;
const QUEUE_LEN: usize = 50;
const PAYLOAD_BYTES: usize = 16 * 1024;
const MESSAGES: u32 = 4000;
/// Of 64 MB in all; what the limits allow for two deaf clients is below 4 MB.
const GROWTH_MAX_BYTES: usize = 24 << 20;

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let row = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kilobytes: usize = row.trim().trim_end_matches(" kB").parse().unwrap();
    kilobytes * 1024
}

fn deaf(house: &House, client_id: &str, qos: QoS) -> Wire {
    let mut wire = Wire::connect(&house.address(), client_id, Version::V5, true);
    wire.subscribe("flood", qos);
    wire.read_type(9).unwrap();
    wire
}

/// Waits until every worker has taken what was published, but for what waits in a queue: mail between them, which has a
/// bound of its own, is not what this is about.
fn let_workers_catch_up(house: &House, published: usize) {
    until("every worker has taken its mail", || {
        let settled = house.count("messages.delivered") + house.count("delivery.dropped");
        settled as usize + QUEUE_LEN >= 3 * published
    });
}

/// Publishes everything; the healthy client reads each message before the next goes out.
fn flood(house: &House) {
    let mut healthy = house.client("healthy", Version::V5);
    healthy.subscribe(&["flood".into()], QoS::AtLeastOnce).unwrap();
    let mut publisher = house.client("p", Version::V5);
    let mut payload = vec![0; PAYLOAD_BYTES];
    for number in 0..MESSAGES {
        payload[..4].copy_from_slice(&number.to_be_bytes());
        publisher.publish("flood", &payload, QoS::AtLeastOnce, false).unwrap();
        let message = healthy.receive(PATIENCE).unwrap().expect("the healthy client is served");
        assert_eq!(message.payload()[..4], number.to_be_bytes());
        if number % 50 == 0 {
            let_workers_catch_up(house, number as usize);
        }
    }
}

fn record(house: &mut House, client_id: &str) -> ClientRecord {
    let mut records = house.clients(10).into_iter();
    records.find(|record| &*record.client_id == client_id).unwrap_or_else(|| panic!("{client_id} is gone"))
}

fn what_is_kept_is_bounded(workers: u16) {
    let limits =
        Limits { max_outbox_bytes: OUTBOX_BYTES as u32, max_mqueue_len: QUEUE_LEN as u32, ..Limits::default() };
    let mut house = House::start(workers, limits);
    let _wires = [deaf(&house, "deaf-0", QoS::AtMostOnce), deaf(&house, "deaf-1", QoS::AtLeastOnce)];
    let before = resident_bytes();
    flood(&house);
    let growth = resident_bytes().saturating_sub(before);
    assert!(growth < GROWTH_MAX_BYTES, "the process grew by {growth} bytes");
    for client_id in ["deaf-0", "deaf-1"] {
        let record = record(&mut house, client_id);
        // A message is begun while there is room: the last one may stand over.
        assert!(record.outbox_bytes <= OUTBOX_BYTES + PAYLOAD_BYTES + 64, "{record:?}");
        assert!(record.inflight <= 32 && record.mqueue_len <= QUEUE_LEN, "{record:?}");
    }
    assert_eq!(record(&mut house, "deaf-1").mqueue_len, QUEUE_LEN);
    assert!(house.count("delivery.dropped.qos0_msg") > 0);
    assert!(house.count("delivery.dropped.queue_full") > 0);
}

#[test]
fn what_is_kept_for_clients_that_read_nothing_is_bounded_and_others_are_served() {
    for workers in [1, 4] {
        what_is_kept_is_bounded(workers);
    }
}
