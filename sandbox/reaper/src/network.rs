//! R11: the jail's network, and the sockets in it that others accept on.

use core::net::{Ipv4Addr, SocketAddrV4};

use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::failure::{During, Failure};
use crate::message::Message;
use crate::setup::{Setup, network_descriptor, report_with};
use crate::step::Step;
use crate::sys;

/// Connections of the plugin that wait to be accepted, at each listener: one that starts with many
/// requests at once loses none, and what waits holds only its own memory.
const BACKLOG: i32 = 128;

/// Enters the prepared namespace or brings loopback up in its own, where it is wanted, then makes the plan's listeners
/// and sends them up. The plugin does not run yet: nobody can have taken their ports.
pub(crate) fn network(setup: &Setup) -> Result<(), Failure> {
    let step = Step::R11;
    setup.begin(step)?;
    enter(setup)?;
    for listener in setup.plan.listeners() {
        let socket = listen(listener.port).during(step, "listen on loopback")?;
        // A socket keeps the network that it was made in; ours is closed here.
        report_with(&Message::Listener(listener.number), socket.as_fd())
            .during(step, "send a listener")?;
    }
    Ok(())
}

fn enter(setup: &Setup) -> Result<(), Failure> {
    let step = Step::R11;
    if setup.plan.settings().network {
        // Its loopback is up.
        let network = sys::fixed(network_descriptor(setup));
        let kind = Some(rustix::thread::LinkNameSpaceType::Network);
        return rustix::thread::move_into_link_name_space(network, kind)
            .during(step, "enter the network namespace");
    }
    if !setup.plan.settings().loopback {
        // In a namespace of its own the interface is down from the start.
        return Ok(());
    }
    let socket = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .during(step, "socket")?;
    sys::loopback_up(socket.as_fd()).during(step, "loopback up")
}

/// Without SO_REUSEPORT, so that nobody in the jail can share the port and take connections away.
fn listen(port: u16) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}
