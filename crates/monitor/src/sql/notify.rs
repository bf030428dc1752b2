//! Pushing to idle sessions: one small bounded queue per session, and a hub for the public
//! channels. Nothing here blocks: a session whose queue is full is marked and dropped.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use super::backend::{SessionId, SessionInfo};

/// A notification channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// State changes, JSON; the old program's.
    State,
    /// Log lines; the old program's.
    Log,
    /// Goals for one keeper, pushed without LISTEN.
    Goal,
}

impl Channel {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Channel::State => "state",
            Channel::Log => "log",
            Channel::Goal => "pgaf_goal",
        }
    }
}

/// The public channels that a session listens to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelSet {
    /// Listens to `state`.
    pub state: bool,
    /// Listens to `log`.
    pub log: bool,
}

impl ChannelSet {
    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        !self.state && !self.log
    }

    fn contains(self, channel: Channel) -> bool {
        match channel {
            Channel::State => self.state,
            Channel::Log => self.log,
            Channel::Goal => false,
        }
    }
}

/// One message to push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Its channel.
    pub channel: Channel,
    /// Its payload; shared by all sessions that get it.
    pub payload: Arc<str>,
}

/// What became of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It is in the session's queue.
    Queued,
    /// The queue is full: the session is being dropped.
    Overflow,
    /// The session is over.
    Gone,
}

/// Pushes to one session. Cheap to clone; outlives the session harmlessly.
#[derive(Clone, Debug)]
pub struct SessionHandle {
    queue: mpsc::Sender<Notification>,
    overflowed: Arc<AtomicBool>,
}

impl SessionHandle {
    /// A handle and the receiving end, which holds at most `limit` notifications.
    pub fn new(limit: usize) -> (SessionHandle, PushQueue) {
        let (queue, receiver) = mpsc::channel(limit.max(1));
        let overflowed = Arc::new(AtomicBool::new(false));
        let handle = SessionHandle {
            queue,
            overflowed: Arc::clone(&overflowed),
        };
        (
            handle,
            PushQueue {
                receiver,
                overflowed,
            },
        )
    }

    /// Puts a notification into the session's queue. Never blocks.
    pub fn push(&self, channel: Channel, payload: Arc<str>) -> Pushed {
        match self.queue.try_send(Notification { channel, payload }) {
            Ok(()) => Pushed::Queued,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.overflowed.store(true, Ordering::Release);
                Pushed::Overflow
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Pushed::Gone,
        }
    }
}

/// The receiving end of a [`SessionHandle`].
#[derive(Debug)]
pub struct PushQueue {
    receiver: mpsc::Receiver<Notification>,
    overflowed: Arc<AtomicBool>,
}

impl PushQueue {
    /// The next notification; pends for ever when all handles are gone.
    pub async fn next(&mut self) -> Notification {
        match self.receiver.recv().await {
            Some(notification) => notification,
            None => std::future::pending().await,
        }
    }

    /// The next notification, if there is one.
    pub fn try_next(&mut self) -> Option<Notification> {
        self.receiver.try_recv().ok()
    }

    /// Whether a push was lost because the queue was full.
    pub fn overflowed(&self) -> bool {
        self.overflowed.load(Ordering::Acquire)
    }
}

/// Distributes the public channels; a ready-made body for [`super::Backend::subscribe`].
#[derive(Clone, Debug, Default)]
pub struct Hub {
    listeners: Arc<Mutex<HashMap<SessionId, (ChannelSet, SessionHandle)>>>,
}

impl Hub {
    /// A hub without listeners.
    pub fn new() -> Self {
        Hub::default()
    }

    /// Replaces the channels of a session; an empty set removes it.
    pub fn subscribe(&self, session: &SessionInfo, channels: ChannelSet) {
        let mut listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if channels.is_empty() {
            listeners.remove(&session.id);
        } else {
            listeners.insert(session.id, (channels, session.handle.clone()));
        }
    }

    /// Forgets a session.
    pub fn forget(&self, session: SessionId) {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&session);
    }

    /// Sends to every listener of the channel. Never blocks.
    pub fn publish(&self, channel: Channel, payload: &str) {
        let mut listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let payload: Arc<str> = Arc::from(payload);
        listeners.retain(|_, (channels, handle)| {
            !channels.contains(channel)
                || handle.push(channel, Arc::clone(&payload)) == Pushed::Queued
        });
    }
}
