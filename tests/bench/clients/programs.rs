//! The clients, as their users start them.

use std::path::Path;

use crate::lab::GUARD;

/// One program, and what it does.
pub(crate) struct Client {
    pub(crate) name: &'static str,
    /// A line of shell: $4 and $6 are the guard's addresses, $dir is the folder with what it needs.
    line: &'static str,
    /// What its output holds if it was served.
    pub(crate) expects: &'static str,
    /// Whether it says itself how many seconds it waited, since its own start takes longer than that.
    says: bool,
}

const fn client(name: &'static str, expects: &'static str, line: &'static str) -> Client {
    Client { name, line, expects, says: false }
}

const fn says(name: &'static str, expects: &'static str, line: &'static str) -> Client {
    Client { name, line, expects, says: true }
}

impl Client {
    pub(crate) const ALL: [Client; 11] = [
        client("curl, HTTP/1.1", "welcome", "curl -sS http://$4:8080/"),
        client("curl, HTTP/2 and TLS", "2 welcome", "curl -sSk --http2 -w '%{http_version} ' -o $dir/page https://$4:8443/; cat $dir/page"),
        client("curl, a name with both versions of IP", "welcome", "curl -sS --resolve shop.example:8080:[$6],$4 http://shop.example:8080/"),
        client("curl, TCP Fast Open", "welcome", "curl -sS --tcp-fastopen http://$4:8080/"),
        client("openssl s_client", "BEGIN CERTIFICATE", "openssl s_client -connect $4:8443 </dev/null 2>/dev/null"),
        client(
            "ssh",
            "welcome",
            "ssh -F none -p 2222 -i $dir/key -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null root@$4 echo welcome 2>/dev/null",
        ),
        client("psql", "welcome", "psql -h $4 -U postgres -Atc \"select 'welcome'\""),
        says(
            "node, a name with both versions of IP",
            "seconds=",
            "node -e \"const began = performance.now();
                require('net').connect({port: 8080, host: 'shop.example', autoSelectFamily: true,
                    lookup: (name, options, then) => then(null, [{address: '$6', family: 6}, {address: '$4', family: 4}])})
                .on('connect', function () { console.log('seconds=' + (performance.now() - began) / 1000); this.destroy(); })\"",
        ),
        says(
            "Python asyncio, a name with both versions of IP",
            "seconds=",
            "python3 -c \"
import asyncio, socket, time
stream = (socket.SOCK_STREAM, 6, '')
addresses = [(socket.AF_INET6, *stream, ('$6', 8080, 0, 0)), (socket.AF_INET, *stream, ('$4', 8080))]
socket.getaddrinfo = lambda *a, **k: addresses
began = time.monotonic()
asyncio.run(asyncio.open_connection('shop.example', 8080, happy_eyeballs_delay=0.25))
print('seconds=', time.monotonic() - began, sep='')\"",
        ),
        says(
            "Chromium, a page of ten files",
            "seconds=",
            "HOME=$(mktemp -d); export HOME
             chromium --headless --no-sandbox --disable-gpu --dump-dom http://$4:8080/page.html 2>/dev/null; rm -r $HOME",
        ),
        says(
            "Chromium, HTTP/2 and TLS",
            "seconds=",
            "HOME=$(mktemp -d); export HOME
             chromium --headless --no-sandbox --disable-gpu --ignore-certificate-errors --dump-dom https://$4:8443/page.html 2>/dev/null; rm -r $HOME",
        ),
    ];

    /// The line of shell, with what it needs.
    pub(crate) fn line(&self, folder: &Path) -> String {
        let line = self.line.replace("$4", GUARD[0]).replace("$6", GUARD[1]);
        format!("dir={}\n{line}", folder.display())
    }

    /// The seconds that it says it waited.
    pub(crate) fn own_time(&self, said: &str) -> Option<f32> {
        let digits = |c: char| c.is_ascii_digit() || c == '.';
        let text = self.says.then(|| said.split_once("seconds="))??.1;
        text.split(|c| !digits(c)).next()?.parse().ok()
    }
}
