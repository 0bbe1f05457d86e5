//! A load balancer in front of several servers, which does something when a given number of bytes has passed: so a test
//! can break what is under way, in the middle of it, every time.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From clients to servers.
    Up,
    /// From servers to clients.
    Down,
}

/// A load balancer on loopback. A connection goes to the first server that takes it.
#[derive(Debug)]
pub struct Balancer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    servers: Vec<SocketAddr>,
    plan: Mutex<Option<Planned>>,
    stopped: AtomicBool,
}

/// What is to be done, and when.
struct Planned {
    direction: Direction,
    left: u64,
    action: Box<dyn FnOnce() + Send>,
}

impl std::fmt::Debug for Planned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Planned").field("direction", &self.direction).field("left", &self.left).finish_non_exhaustive()
    }
}

impl Balancer {
    /// In front of these servers.
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { servers, plan: Mutex::new(None), stopped: AtomicBool::new(false) });
        let sharing = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if sharing.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(client) = client else { continue };
                // With no server at all the client is told at once, by the end of its connection.
                let Some(server) = sharing.servers.iter().find_map(|server| TcpStream::connect(server).ok()) else {
                    continue;
                };
                for (direction, from, to) in [(Direction::Up, &client, &server), (Direction::Down, &server, &client)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let sharing = Arc::clone(&sharing);
                    std::thread::spawn(move || forward(&sharing, direction, from, to));
                }
            }
        });
        Self { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Runs `action` once, when so many more bytes have come in this direction. They go on when it is done.
    pub fn after(&self, direction: Direction, bytes: u64, action: impl FnOnce() + Send + 'static) {
        *self.shared.plan.lock().unwrap() = Some(Planned { direction, left: bytes, action: Box::new(action) });
    }

    /// Whether what was planned has been done.
    pub fn is_done(&self) -> bool {
        self.shared.plan.lock().unwrap().is_none()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

/// Passes bytes on until one side ends; then the other is told.
fn forward(shared: &Shared, direction: Direction, mut from: TcpStream, mut to: TcpStream) {
    let mut piece = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        shared.count(direction, length as u64);
        if to.write_all(&piece[..length]).is_err() {
            break;
        }
    }
    // It may have gone already.
    let _ = to.shutdown(Shutdown::Write);
    if direction == Direction::Down {
        // A server that is gone takes nothing either.
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }
}

impl Shared {
    fn count(&self, direction: Direction, bytes: u64) {
        let mut plan = self.plan.lock().unwrap();
        let Some(planned) = plan.as_mut().filter(|planned| planned.direction == direction) else { return };
        planned.left = planned.left.saturating_sub(bytes);
        if planned.left == 0
            && let Some(planned) = plan.take()
        {
            // The lock is held: whoever else has bytes waits until it is done.
            (planned.action)();
        }
    }
}
