//! The daemon's connection: given by whoever started the launcher, or taken from a listening socket,
//! where the peer has to be the daemon's user.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::SocketFlags;

use super::log;
use super::manager::Manager;

/// Where the daemon comes in.
#[derive(Debug)]
pub(super) enum Door {
    /// It is connected: the peer is who started the launcher.
    Connected(OwnedFd),
    /// It will connect. Only its user may.
    Listening(OwnedFd),
}

impl Door {
    pub(super) fn socket(&self) -> &OwnedFd {
        match self {
            Self::Connected(socket) | Self::Listening(socket) => socket,
        }
    }

    /// Waits until the process of user `uid` that this launcher serves is connected. Who else connects
    /// is sent away. The service manager hears that the launcher lives meanwhile; it ends it with
    /// SIGTERM, which nothing stands against while there is no jail.
    pub(super) fn open(&self, uid: u32, manager: &mut Manager) -> io::Result<OwnedFd> {
        let listener = match self {
            Self::Connected(socket) => return socket.try_clone(),
            Self::Listening(listener) => listener,
        };
        rustix::io::ioctl_fionbio(listener, true)?;
        loop {
            match accept(listener, uid)? {
                Some(connected) => return Ok(connected),
                None => wait(listener, manager)?,
            }
        }
    }

    /// The socket on which another daemon could come in, where there is one.
    pub(super) fn for_another(self) -> Option<OwnedFd> {
        match self {
            Self::Connected(_) => None,
            Self::Listening(listener) => Some(listener),
        }
    }

    /// Ends the connections that wait. Left waiting, they would have the service manager start a
    /// launcher that cannot start again and again; their daemon learns of it now.
    pub(super) fn send_away(&self) {
        if let Self::Listening(listener) = self
            && rustix::io::ioctl_fionbio(listener, true).is_ok()
        {
            while rustix::net::accept_with(listener, SocketFlags::CLOEXEC).is_ok() {}
        }
    }
}

/// The first of those who wait that is of user `uid` and still there, if there is one; others before it are sent away.
/// The listener does not block.
pub(super) fn accept(listener: &OwnedFd, uid: u32) -> io::Result<Option<OwnedFd>> {
    loop {
        match rustix::net::accept_with(listener, SocketFlags::CLOEXEC) {
            Ok(connected) => match refusal(&connected, uid) {
                // A daemon that has ended meanwhile must not stand for the one that comes after it.
                None if has_hung_up(&connected)? => {}
                None => return Ok(Some(connected)),
                Some(refusal) => log::line(&refusal),
            },
            Err(Errno::AGAIN) => return Ok(None),
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Whether the peer has closed its end.
fn has_hung_up(connected: &OwnedFd) -> io::Result<bool> {
    let mut polled = [PollFd::new(connected, PollFlags::empty())];
    rustix::io::retry_on_intr(|| poll(&mut polled, Some(&Timespec::default())))?;
    let [polled] = polled;
    Ok(polled.revents().contains(PollFlags::HUP))
}

fn wait(listener: &OwnedFd, manager: &mut Manager) -> io::Result<()> {
    let left = manager
        .deadline()
        .map(|due| due.saturating_duration_since(Instant::now()))
        .and_then(|left| Timespec::try_from(left).ok());
    let mut waited_for = [PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN)];
    match poll(&mut waited_for, left.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    manager.on_time(Instant::now());
    Ok(())
}

/// Why a peer is not served.
fn refusal(connected: &OwnedFd, uid: u32) -> Option<String> {
    match rustix::net::sockopt::socket_peercred(connected) {
        Ok(peer) if peer.uid.as_raw() == uid => None,
        Ok(peer) => Some(format!(
            "process {} of uid {} is sent away: only daemon-user, uid {uid}, is served",
            peer.pid.as_raw_nonzero(),
            peer.uid.as_raw()
        )),
        Err(errno) => Some(format!("a peer without credentials is sent away: {errno}")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rustix::net::{
        AddressFamily, SocketAddrUnix, SocketType, bind, connect, listen, socket_with,
    };

    use super::super::manager::Told;
    use super::*;

    fn packets() -> OwnedFd {
        let flags = SocketFlags::CLOEXEC;
        socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap()
    }

    fn listening(directory: &Path) -> (OwnedFd, SocketAddrUnix) {
        let address = SocketAddrUnix::new(directory.join("socket")).unwrap();
        let listener = packets();
        bind(&listener, &address).unwrap();
        listen(&listener, 8).unwrap();
        (listener, address)
    }

    fn closed(client: &OwnedFd) -> bool {
        let mut byte = [0];
        rustix::io::read(client, &mut byte).unwrap() == 0
    }

    #[test]
    fn who_has_ended_while_it_waited_is_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let (listener, address) = listening(directory.path());
        rustix::io::ioctl_fionbio(&listener, true).unwrap();
        let own = rustix::process::geteuid().as_raw();
        let [gone, said, there] = [(), (), ()].map(|()| {
            let client = packets();
            connect(&client, &address).unwrap();
            client
        });
        rustix::io::write(&said, b"request").unwrap();
        rustix::io::write(&there, b"there").unwrap();
        drop((gone, said));
        let served = accept(&listener, own).unwrap().unwrap();
        let mut bytes = [0; 8];
        let count = rustix::io::read(&served, &mut bytes).unwrap();
        assert_eq!(bytes.get(..count), Some(&b"there"[..]));
        assert!(accept(&listener, own).unwrap().is_none());
    }

    #[test]
    fn only_the_daemons_user_is_served() {
        let directory = tempfile::tempdir().unwrap();
        let (listener, address) = listening(directory.path());
        let client = packets();
        connect(&client, &address).unwrap();

        let own = rustix::process::geteuid().as_raw();
        let accepted = rustix::net::accept(&listener).unwrap();
        assert_eq!(refusal(&accepted, own), None);
        let refused = refusal(&accepted, own + 1).unwrap();
        assert!(
            refused.contains(&format!("of uid {own} is sent away")),
            "{refused}"
        );
        drop(accepted);
        assert!(closed(&client));

        let door = Door::Listening(listener);
        let client = packets();
        connect(&client, &address).unwrap();
        let mut manager = Manager::connect(&Told::default());
        drop(door.open(own, &mut manager).unwrap());
        let waiting = packets();
        connect(&waiting, &address).unwrap();
        door.send_away();
        assert!(closed(&waiting));
    }
}
