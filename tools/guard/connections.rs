//! The connections that are of use to this machine, as the kernel lists them: logins, and its own questions to resolvers and
//! time servers.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use psentry_linux::{Error, Ports, Socket, Transport, connections, listening_sockets};

use crate::sessions::Use;

/// The ports of resolvers: plain, and over TLS or QUIC.
const NAMES: [u16; 2] = [53, 853];

/// The port of time servers.
const TIME: u16 = 123;

/// The connections that are of use to this machine. The inner error: this kernel cannot tell.
pub(crate) fn in_use(logins: &[RangeInclusive<u16>]) -> Result<Result<Vec<(Use, Socket)>, String>, Error> {
    let mut all = Vec::new();
    let mut asked: Vec<RangeInclusive<u16>> = NAMES.map(|port| port..=port).to_vec();
    for (transport, local) in [(Transport::Tcp, logins), (Transport::Udp, &[])] {
        if transport == Transport::Udp {
            asked.push(TIME..=TIME);
        }
        let found = match connections(transport, &Ports { local: local.to_vec(), remote: asked.clone() })? {
            Ok(found) => found,
            Err(errno) if transport == Transport::Tcp => return Ok(Err(errno.desc().to_owned())),
            // Without these nobody is cut off.
            Err(_) => continue,
        };
        let (logins, others): (Vec<_>, Vec<_>) = found
            .into_iter()
            // At a mirage nobody logs in, and none of our questions comes from one, whatever its ports.
            .filter(|connection| !connection.transparent)
            .partition(|connection| local.iter().any(|ports| ports.contains(&connection.local_port)));
        all.extend(logins.into_iter().map(|connection| (Use::Login, connection)));
        if others.is_empty() {
            continue;
        }
        // Who comes to a service of ours from a resolver's port is no resolver.
        let services = listening_sockets(transport)?.unwrap_or_default();
        let services: BTreeSet<u16> = services.iter().map(|service| service.local_port).collect();
        let asked = others.into_iter().filter(|connection| !services.contains(&connection.local_port));
        all.extend(asked.map(|connection| {
            let what = if connection.remote_port == TIME { Use::Time } else { Use::Names };
            (what, connection)
        }));
    }
    Ok(Ok(all))
}
