//! The same broker on tokio: a current-thread local runtime, one task per connection, one task that flushes.
//!
//! Knows sockets and tasks, no MQTT. Written to be tokio at its best, as far as we know how:
//! - all tasks read into one buffer, so an idle connection holds none;
//! - a short read clears the readiness at once, which saves the second read that would only say EAGAIN;
//! - tasks woken together run in order, so the flusher, woken by the first of them, runs after the last: one write per
//!   socket and turn, and no task switch to reach the subscriber.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use loop_spike::broker::{Broker, Id};
use loop_spike::{READ_BYTES, listener, port_argument};
use rustix::net::{RecvFlags, recv};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::spawn_local;

struct Worker {
    broker: RefCell<Broker>,
    streams: RefCell<Vec<Option<Rc<TcpStream>>>>,
    read_buffer: RefCell<Box<[u8]>>,
    flusher: RefCell<Waker>,
    is_flush_due: Cell<bool>,
}

fn main() -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().build_local(LocalOptions::default())?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener(port_argument())?)?;
        let worker = Rc::new(Worker::new());
        spawn_local(flush_turns(worker.clone()));
        spawn_local(accept(worker, listener));
        pending().await
    })
}

async fn accept(worker: Rc<Worker>, listener: TcpListener) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            let stream = Rc::new(stream);
            let id = worker.attach(stream.clone());
            spawn_local(serve(worker.clone(), id, stream));
        }
    }
}

async fn serve(worker: Rc<Worker>, id: Id, stream: Rc<TcpStream>) {
    while poll_fn(|context| worker.poll_read(context, id, &stream)).await.is_ok() {}
    worker.detach(id);
}

async fn flush_turns(worker: Rc<Worker>) {
    poll_fn(|context| {
        worker.flusher.borrow_mut().clone_from(context.waker());
        flush_dirty(&worker);
        Poll::Pending
    })
    .await
}

/// Waits for a full socket. At most one such task per client: one with output left is not dirty again.
async fn drain(worker: Rc<Worker>, id: Id, stream: Rc<TcpStream>) {
    while stream.writable().await.is_ok() {
        let is_current = matches!(&worker.streams.borrow()[id], Some(now) if Rc::ptr_eq(now, &stream));
        if !is_current || !worker.write(id, &stream) {
            return;
        }
    }
}

impl Worker {
    fn new() -> Self {
        Self {
            broker: RefCell::default(),
            streams: RefCell::default(),
            read_buffer: RefCell::new(vec![0; READ_BYTES].into()),
            flusher: RefCell::new(Waker::noop().clone()),
            is_flush_due: Cell::new(false),
        }
    }

    fn attach(&self, stream: Rc<TcpStream>) -> Id {
        let id = self.broker.borrow_mut().attach();
        let mut streams = self.streams.borrow_mut();
        if id == streams.len() {
            streams.push(None);
        }
        streams[id] = Some(stream);
        id
    }

    fn detach(&self, id: Id) {
        self.streams.borrow_mut()[id] = None;
        self.broker.borrow_mut().detach(id);
    }

    /// One read and its frames; an error ends the connection.
    fn poll_read(&self, context: &mut Context<'_>, id: Id, stream: &TcpStream) -> Poll<io::Result<()>> {
        let buffer = &mut *self.read_buffer.borrow_mut();
        loop {
            ready!(stream.poll_read_ready(context))?;
            match read(stream, buffer) {
                Ok(0) => return Poll::Ready(Err(ErrorKind::UnexpectedEof.into())),
                Ok(bytes) => return Poll::Ready(self.on_bytes(id, &buffer[..bytes])),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn on_bytes(&self, id: Id, input: &[u8]) -> io::Result<()> {
        let mut broker = self.broker.borrow_mut();
        let outcome = broker.on_bytes(id, input);
        if broker.is_dirty() && !self.is_flush_due.replace(true) {
            self.flusher.borrow().wake_by_ref();
        }
        outcome.map_err(|_| ErrorKind::ConnectionAborted.into())
    }

    fn next_dirty(&self) -> Option<Id> {
        self.broker.borrow_mut().next_dirty()
    }

    /// One write; returns whether output is left. A failed write is seen by the reader, which ends the connection.
    fn write(&self, id: Id, stream: &TcpStream) -> bool {
        let mut broker = self.broker.borrow_mut();
        if broker.out(id).is_empty() {
            return false;
        }
        match stream.try_write(broker.out(id)) {
            Ok(bytes) => broker.written(id, bytes),
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }
}

fn flush_dirty(worker: &Rc<Worker>) {
    worker.is_flush_due.set(false);
    while let Some(id) = worker.next_dirty() {
        let Some(stream) = &worker.streams.borrow()[id] else { continue };
        if worker.write(id, stream) {
            spawn_local(drain(worker.clone(), id, stream.clone()));
        }
    }
}

/// One read. A short one proves the socket empty; tokio clears the readiness when it is told `WouldBlock`.
fn read(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut received = None;
    let outcome = stream.try_io(Interest::READABLE, || {
        let (bytes, _) = recv(stream, &mut *buffer, RecvFlags::empty())?;
        received = Some(bytes);
        if bytes < buffer.len() { Err(ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    received.map_or_else(|| outcome.map(|()| 0), Ok)
}
