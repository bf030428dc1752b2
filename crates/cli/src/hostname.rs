//! The name by which other machines reach this one, when the user gives none.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket};

use crate::error::{ExitCode, Failure};

/// A public address to ask the routing table about when there is no monitor. Nothing is sent.
/// Source: the old program.
const OUTSIDE: (&str, u16) = ("8.8.8.8", 53);

/// Finds the host name: the system's, when it means an address of this machine; else the address
/// that packets towards `peer` leave from.
///
/// # Errors
/// Exit code 1 when neither is known.
pub(crate) fn detect(peer: Option<(&str, u16)>) -> Result<String, Failure> {
    if let Some(name) = own_name() {
        return Ok(name);
    }
    let (host, port) = peer.unwrap_or(OUTSIDE);
    tracing::info!("Connecting to {host} (port {port}) to find the address of this machine");
    match address_towards(host, port) {
        Some(address) => {
            tracing::warn!(
                "the host name of this machine means no address of it: using {address}, check it"
            );
            Ok(address.to_string())
        }
        None => Err(Failure::fatal(
            ExitCode::BadArgs,
            "Failed to find the host name that other nodes reach this machine by",
        )
        .hint("use --hostname NAME_OR_ADDRESS")),
    }
}

fn own_name() -> Option<String> {
    let name = nix::unistd::gethostname().ok()?.into_string().ok()?;
    let mut addresses = (name.as_str(), 0).to_socket_addrs().ok()?;
    addresses
        .any(|address| is_local(address.ip()))
        .then_some(name)
}

/// Only an address of this machine can be bound to.
fn is_local(address: IpAddr) -> bool {
    UdpSocket::bind(SocketAddr::new(address, 0)).is_ok()
}

/// The local address of the route to a host. Connecting a UDP socket sends nothing.
pub(crate) fn address_towards(host: &str, port: u16) -> Option<IpAddr> {
    (host, port).to_socket_addrs().ok()?.find_map(|remote| {
        let any = if remote.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let socket = UdpSocket::bind(any).ok()?;
        socket.connect(remote).ok()?;
        Some(socket.local_addr().ok()?.ip())
    })
}

/// The network of an address of this machine, as CIDR, from the routing table.
pub(crate) fn network_of(address: IpAddr) -> Option<String> {
    let IpAddr::V4(address) = address else {
        return None;
    };
    let table = std::fs::read_to_string("/proc/net/route").ok()?;
    narrowest(&table, address)
}

/// The narrowest network of a routing table that has the address; the default route has none.
fn narrowest(table: &str, address: Ipv4Addr) -> Option<String> {
    let networks = table.lines().skip(1).filter_map(|line| {
        let mut columns = line.split_whitespace();
        let network = hexadecimal(columns.nth(1)?)?;
        let mask = hexadecimal(columns.nth(5)?)?;
        let inside = mask != 0 && u32::from(address) & mask == network;
        inside.then_some((mask.count_ones(), network))
    });
    let (bits, network) = networks.max()?;
    Some(format!("{}/{bits}", Ipv4Addr::from(network)))
}

/// The kernel prints addresses as numbers of the machine's byte order.
fn hexadecimal(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 16).ok().map(u32::to_be)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_network_of_an_address_is_its_lan() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\n\
            eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\n\
            eth0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\n\
            eth0\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\n";
        let address = Ipv4Addr::new(10, 0, 2, 7);
        assert_eq!(narrowest(table, address), Some("10.0.2.0/24".to_owned()));
        assert_eq!(narrowest(table, Ipv4Addr::new(192, 168, 0, 1)), None);
    }

    #[test]
    fn loopback_is_local_and_a_documentation_address_is_not() {
        assert!(is_local(Ipv4Addr::LOCALHOST.into()));
        assert!(!is_local(Ipv4Addr::new(203, 0, 113, 7).into()));
    }
}
