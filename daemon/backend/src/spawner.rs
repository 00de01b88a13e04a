//! Starts the children's processes, all from one thread that lives as long as the registry.
//!
//! Why a thread: a child asks the kernel to be killed with its parent, and the kernel means the parent *thread*. A thread of the
//! runtime's pool may end at any time; this one ends with the registry, and the children with it.

use std::sync::{Mutex, PoisonError, mpsc};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

struct Order {
    command: Command,
    runtime: Handle,
    reply: oneshot::Sender<std::io::Result<Child>>,
}

/// The thread's mailbox; the thread starts with the first order.
#[derive(Default)]
pub(crate) struct Spawner {
    orders: Mutex<Option<mpsc::Sender<Order>>>,
}

impl Spawner {
    /// Starts a process. Must be called inside a tokio runtime.
    pub(crate) async fn spawn(&self, command: Command) -> std::io::Result<Child> {
        let (reply, started) = oneshot::channel();
        let order = Order { command, runtime: Handle::current(), reply };
        self.sender()?.send(order).map_err(|_| std::io::Error::other("the thread that starts processes has ended"))?;
        started.await.map_err(|_| std::io::Error::other("the thread that starts processes has ended"))?
    }

    fn sender(&self) -> std::io::Result<mpsc::Sender<Order>> {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = &*orders {
            return Ok(sender.clone());
        }
        let (sender, inbox) = mpsc::channel::<Order>();
        std::thread::Builder::new().name("spawn".to_owned()).spawn(move || {
            for mut order in inbox {
                let _runtime = order.runtime.enter();
                // If nobody waits any more, dropping the child kills it.
                let _taken = order.reply.send(order.command.spawn());
            }
        })?;
        *orders = Some(sender.clone());
        Ok(sender)
    }
}
