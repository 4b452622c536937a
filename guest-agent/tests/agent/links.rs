//! Links that apps open: to the host where it takes them, else to the guest's own programs.

use std::os::unix::fs::PermissionsExt as _;

use inlay_protocol::display::{Event, Request};

use crate::host::Host;

fn sent(host: &Host) -> Vec<&str> {
    let links = host.requests.iter().filter_map(|request| match request {
        Request::OpenLink(uri) => Some(uri.as_str()),
        _ => None,
    });
    links.collect()
}

#[test]
fn links_go_to_a_host_that_takes_them_and_stay_in_the_guest_else() {
    let guest = tempfile::tempdir().unwrap();
    // The guest's own way to open a link.
    let (opener, opened) = (guest.path().join("xdg-open"), guest.path().join("opened"));
    std::fs::write(&opener, format!("#!/bin/sh\necho \"$1 $XDG_DATA_DIRS\" >> {}\n", opened.display()))
        .unwrap();
    std::fs::set_permissions(&opener, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", guest.path().display());
    let mut host = Host::start_with(&[("PATH", &path), ("XDG_DATA_DIRS", "/usr/share")]);
    host.accept_display();
    let agent = env!("CARGO_BIN_EXE_inlay-agent");
    host.launch(1, &[agent, "open-link", "https://a/\u{e4}?b=c d"]);
    host.until("a link in the guest", |_| {
        std::fs::read_to_string(&opened).is_ok_and(|text| text.ends_with('\n'))
    });
    // Without our defaults, or it would come back.
    assert_eq!(std::fs::read_to_string(&opened).unwrap(), "https://a/%C3%A4?b=c%20d /usr/share\n");
    host.send(&Event::Links(true));
    for (id, link) in
        ["file:///etc/passwd", "javascript:x", "--version", "", "mailto:a@b", "HTTPS://b/"].iter().enumerate()
    {
        host.launch(2 + id as u64, &[agent, "open-link", link]);
        host.serve_for(std::time::Duration::from_millis(150));
    }
    host.until("the links that are some", |host| sent(host).len() == 2);
    assert_eq!(sent(&host), ["mailto:a@b", "HTTPS://b/"]);
    // Where apps look: after the guest's own files, and before its defaults.
    host.launch(20, &["sh", "-c", &format!("echo $XDG_CONFIG_DIRS $XDG_DATA_DIRS > {}", opened.display())]);
    host.until("an app's folders", |_| {
        std::fs::read_to_string(&opened).is_ok_and(|text| text.contains("xdg"))
    });
    let share = host.dir.path().display();
    let folders = std::fs::read_to_string(&opened).unwrap();
    assert_eq!(folders, format!("{share}/share/xdg:/etc/xdg /usr/share:{share}/share\n"));
}
