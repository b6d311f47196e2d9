//! Sessions that outlive their connections: their clients leave, come back, and in the end leave nothing behind.
//!
//! Knows only the order of these steps. A broker may be slow to close after DISCONNECT, or not do it at all: then we close.

use std::ops::Range;
use std::time::Duration;

use crate::clients::{Bystander, CONCURRENCY, Clients, Player, Stay};
use crate::failure::Outcome;
use crate::live::Live;
use crate::options::Options;

/// For the broker to close after our DISCONNECT, which it should [MQTT-3.14.4-3].
const CLOSE_MAX: Duration = Duration::from_secs(1);
/// For all CONNACKs of those that come back.
const RETURN_MAX: Duration = Duration::from_secs(30);

/// These clients disconnect; sessions that can outlive their connections do.
pub fn depart(clients: &mut Clients, range: Range<usize>) -> Outcome<()> {
    range.clone().for_each(|client| clients.send_away(client));
    let is_done = |_: &Bystander, clients: &Clients| range.clone().all(|client| !clients.is_open(client));
    clients.run_until(&mut Bystander, CLOSE_MAX, is_done)?;
    range.for_each(|client| clients.cut(client));
    Ok(())
}

/// They connect again, a few at a time; packets go to `player` from the first CONNACK on. False where not all were let in.
pub fn come_back<P: Player>(
    clients: &mut Clients,
    player: &mut P,
    (range, stay): (Range<usize>, Stay),
    who: (&Options, &Live),
) -> Outcome<bool> {
    let (options, live) = who;
    let (mut asked, count) = (clients.greeted, clients.greeted + range.len());
    for client in range {
        clients.reopen(client, options, stay)?;
        asked += 1;
        let has_room = |_: &P, clients: &Clients| clients.greeted + CONCURRENCY > asked || is_over(clients, live);
        clients.run_until(player, RETURN_MAX, has_room)?;
    }
    clients.run_until(player, RETURN_MAX, |_, clients| clients.greeted == count || is_over(clients, live))?;
    Ok(clients.greeted == count)
}

fn is_over(clients: &Clients, live: &Live) -> bool {
    live.is_abandoned() || clients.closed + clients.turned_away > 0
}

/// Their sessions end, whether the run was stopped or not.
pub fn forget(clients: &mut Clients, range: Range<usize>, who: (&Options, &Live)) -> Outcome<()> {
    depart(clients, range.clone())?;
    come_back(clients, &mut Bystander, (range.clone(), Stay::Passing), who)?;
    depart(clients, range)
}
