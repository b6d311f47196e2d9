//! The spike's own readiness loop: one thread, level-triggered epoll, one read and one write per socket and turn.
//!
//! Knows sockets and turns, no MQTT. `main` drives it.

use std::net::TcpListener;
use std::os::fd::OwnedFd;

use loop_spike::broker::{Broker, Id};
use loop_spike::{READ_BYTES, listener, port_argument};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::{Errno, Result};
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};

const EVENTS_PER_TURN: usize = 1024;
const LISTENER: u64 = u64::MAX;

struct Socket {
    fd: OwnedFd,
    /// EPOLLOUT is asked for, because the last write did not take everything.
    is_full: bool,
}

struct Worker {
    epoll: OwnedFd,
    listener: TcpListener,
    sockets: Vec<Option<Socket>>,
    broker: Broker,
    read_buffer: Box<[u8]>,
    /// Closed at the end of the turn: before, events of this turn may still name their ids.
    ended: Vec<Id>,
    must_accept: bool,
}

fn main() -> Result<()> {
    let mut worker = Worker::listening(listener(port_argument())?)?;
    let mut events = Vec::with_capacity(EVENTS_PER_TURN);
    loop {
        events.clear();
        match epoll::wait(&worker.epoll, spare_capacity(&mut events), None) {
            Err(Errno::INTR) => continue,
            waited => waited?,
        };
        worker.turn(&events)?;
    }
}

impl Worker {
    fn listening(listener: TcpListener) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        Ok(Self {
            epoll,
            listener,
            sockets: Vec::new(),
            broker: Broker::default(),
            read_buffer: vec![0; READ_BYTES].into(),
            ended: Vec::new(),
            must_accept: false,
        })
    }

    /// Read all that is ready, decide, flush once, then close and accept.
    fn turn(&mut self, events: &[Event]) -> Result<()> {
        for event in events {
            self.on_event(event.data.u64(), event.flags);
        }
        while let Some(id) = self.broker.next_dirty() {
            self.flush(id);
        }
        while let Some(id) = self.ended.pop() {
            self.close(id);
        }
        if std::mem::take(&mut self.must_accept) {
            self.accept()?;
        }
        Ok(())
    }

    fn on_event(&mut self, token: u64, flags: EventFlags) {
        if token == LISTENER {
            self.must_accept = true;
            return;
        }
        let id = token as Id;
        if flags.contains(EventFlags::OUT) {
            self.flush(id);
        }
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            self.read(id);
        }
    }

    fn read(&mut self, id: Id) {
        let Some(socket) = &self.sockets[id] else { return };
        let is_over = match recv(&socket.fd, &mut *self.read_buffer, RecvFlags::empty()) {
            Ok((0, _)) => true,
            Ok((bytes, _)) => self.broker.on_bytes(id, &self.read_buffer[..bytes]).is_err(),
            Err(error) => error != Errno::AGAIN,
        };
        if is_over {
            self.ended.push(id);
        }
    }

    /// One write. A failed one closes nothing: the error also makes the socket readable.
    fn flush(&mut self, id: Id) {
        let Some(socket) = &mut self.sockets[id] else { return };
        let out = self.broker.out(id);
        if out.is_empty() {
            return;
        }
        let bytes = send(&socket.fd, out, SendFlags::NOSIGNAL).unwrap_or(0);
        let is_full = self.broker.written(id, bytes);
        if is_full != socket.is_full {
            socket.is_full = is_full;
            let flags = if is_full { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            epoll::modify(&self.epoll, &socket.fd, EventData::new_u64(id as u64), flags)
                .expect("the socket is registered until it is closed");
        }
    }

    fn close(&mut self, id: Id) {
        if self.sockets[id].take().is_some() {
            self.broker.detach(id);
        }
    }

    fn accept(&mut self) -> Result<()> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        while let Ok(fd) = accept_with(&self.listener, flags) {
            let id = self.broker.attach();
            epoll::add(&self.epoll, &fd, EventData::new_u64(id as u64), EventFlags::IN)?;
            if id == self.sockets.len() {
                self.sockets.push(None);
            }
            self.sockets[id] = Some(Socket { fd, is_full: false });
        }
        Ok(())
    }
}
