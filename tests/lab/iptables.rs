//! A variant of iptables, chosen for a program by its PATH.

use super::Host;

/// The paths of a host on which `iptables` and its companions are of one variant, `nft` or `legacy`.
pub struct Iptables {
    /// For psentry-block.
    pub own_path: String,
    /// For others, who wait for the lock of the legacy variant: psentry-block holds it for a moment each second, and without `-w` that
    /// is an error.
    pub path: String,
}

impl Iptables {
    /// Makes them on a host.
    pub fn choose(host: &Host, variant: &str) -> Self {
        host.sh(&format!(
            "mkdir /run/{variant} /run/waiting; for name in iptables iptables-restore ip6tables ip6tables-restore; do
                 ln -s $(command -v $(echo $name | sed s/tables/tables-{variant}/)) /run/{variant}/$name
                 printf '#!/bin/sh\nexec /run/{variant}/%s -w \"$@\"\n' $name > /run/waiting/$name
                 chmod +x /run/waiting/$name; done"
        ));
        let own_path = format!("/run/{variant}:{}", std::env::var("PATH").unwrap());
        let path = format!("/run/waiting:{own_path}");
        Iptables { own_path, path }
    }
}
