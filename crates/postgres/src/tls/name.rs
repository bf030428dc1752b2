//! Whether a certificate is for a host, by libpq's rules (`fe-secure-common.c`).

use std::net::IpAddr;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

/// Looks in the subject alternative names; the common name counts only when none of them is a
/// host name or an address.
pub(super) fn matches(certificate: &X509Certificate<'_>, host: &str) -> bool {
    let address: Option<IpAddr> = host.parse().ok();
    let mut names_hosts = false;
    if let Ok(Some(alternatives)) = certificate.subject_alternative_name() {
        for name in &alternatives.value.general_names {
            match name {
                GeneralName::DNSName(pattern) => {
                    names_hosts = true;
                    if host_matches(pattern, host, address.is_some()) {
                        return true;
                    }
                }
                GeneralName::IPAddress(bytes) => {
                    names_hosts = true;
                    if address.is_some_and(|a| address_matches(bytes, a)) {
                        return true;
                    }
                }
                GeneralName::OtherName(..)
                | GeneralName::RFC822Name(_)
                | GeneralName::X400Address(_)
                | GeneralName::DirectoryName(_)
                | GeneralName::EDIPartyName(_)
                | GeneralName::URI(_)
                | GeneralName::RegisteredID(_)
                | GeneralName::Invalid(..) => {}
            }
        }
    }
    !names_hosts
        && certificate
            .subject()
            .iter_common_name()
            .filter_map(|cn| cn.as_str().ok())
            .any(|pattern| host_matches(pattern, host, address.is_some()))
}

fn address_matches(bytes: &[u8], address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => bytes == v4.octets(),
        IpAddr::V6(v6) => bytes == v6.octets(),
    }
}

/// Equal without regard to case, or `*.rest` for exactly one leading label.
fn host_matches(pattern: &str, host: &str, host_is_address: bool) -> bool {
    if pattern.eq_ignore_ascii_case(host) {
        return true;
    }
    if host_is_address {
        return false;
    }
    let Some(rest) = pattern.strip_prefix("*.") else {
        return false;
    };
    host.split_once('.').is_some_and(|(first, tail)| {
        !first.is_empty() && !rest.is_empty() && tail.eq_ignore_ascii_case(rest)
    })
}
