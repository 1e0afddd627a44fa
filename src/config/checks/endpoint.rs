//! Parses hosts, ports and URLs.

use std::net::{IpAddr, Ipv6Addr};

const MAX_HOST: usize = 253;

/// The host without brackets, and the port. The error is the message and the suggestion.
pub(super) fn host_and_port(text: &str) -> Result<(String, Option<u16>), (String, String)> {
    let example = || "write a host and its port: \"127.0.0.1:80\", \"[::1]:80\"".to_string();
    if text.parse::<Ipv6Addr>().is_ok() {
        let message = format!("`{text}` is an IPv6 address and must be in brackets");
        return Err((message, format!("write \"[{text}]:80\"")));
    }
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let Some((host, port)) = rest.split_once(']') else {
            return Err((format!("`{text}` has a [ without its ]"), example()));
        };
        if host.contains('%') {
            let help = "write an address that is the same on all interfaces, such as \"[::1]:80\"";
            return Err((format!("`{host}` names an interface"), help.into()));
        }
        if host.parse::<Ipv6Addr>().is_err() {
            return Err((format!("`{host}` is not an IPv6 address"), example()));
        }
        match port.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if port.is_empty() => (host, None),
            None => return Err((format!("`{port}` is not a port"), example())),
        }
    } else {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let is_number = !host.is_empty()
            && port.is_some()
            && host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if host.is_empty() {
            return Err((format!("`{text}` has no host"), example()));
        }
        if host.len() > MAX_HOST || !host.chars().all(fits) || host.starts_with(['-', '.']) {
            let message = format!("`{host}` is neither an address nor the name of a host");
            return Err((message, example()));
        }
        if is_number && host.parse::<IpAddr>().is_err() {
            return Err((format!("`{host}` is not an address"), example()));
        }
        (host, port)
    };
    let port = match port {
        None => None,
        Some("") => {
            let host = text.trim_end_matches(':');
            return Err((format!("`{text}` has no port"), format!("write \"{host}:80\"")));
        }
        Some(digits) => match digits.parse::<u16>() {
            Ok(port) if port > 0 && !digits.starts_with('+') => Some(port),
            _ => return Err((format!("`{digits}` is not a port: 1 to 65535"), example())),
        },
    };
    Ok((host.to_string(), port))
}

pub(super) fn normal_url(url: &str) -> Result<String, (String, String)> {
    let lower = url.to_ascii_lowercase();
    let scheme = ["http://", "https://"].into_iter().find(|scheme| lower.starts_with(scheme));
    let Some(scheme) = scheme else {
        let help = match url.split_once("://") {
            None if !url.is_empty() => format!("write \"http://{url}\""),
            _ => "write http = \"http://127.0.0.1/healthz\"".into(),
        };
        return Err((format!("`{url}` does not begin with http:// or https://"), help));
    };
    let rest = url.get(scheme.len()..).unwrap_or_default();
    if let Some(wrong) = url.chars().find(|c| !c.is_ascii_graphic()) {
        let help = "write it as %20 and the like, or leave it out";
        return Err((format!("a URL has no {wrong:?} in it"), help.into()));
    }
    if let Some((before, _)) = url.split_once('#') {
        let message = "what follows # in a URL is never sent".to_string();
        return Err((message, format!("write \"{before}\"")));
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.contains('@') {
        let message = "a user or password in the URL would be shown in status and logs".to_string();
        let help = "leave it out; a `command` can ask with a password that it reads from a file";
        return Err((message, help.into()));
    }
    let slash = if path.starts_with('/') { "" } else { "/" };
    if authority.is_empty() {
        let help = "write http = \"http://127.0.0.1/healthz\"".to_string();
        return Err((format!("`{url}` has no host"), help));
    }
    if authority.parse::<Ipv6Addr>().is_ok() {
        let help = format!("write \"{scheme}[{authority}]{slash}{path}\"");
        return Err((format!("`{authority}` is an IPv6 address and must be in brackets"), help));
    }
    // With a port, so that an IPv4 address without one is checked, too.
    let with_port = match authority.rsplit_once(':') {
        Some(_) => authority.to_string(),
        None => format!("{authority}:80"),
    };
    host_and_port(&with_port).map_err(|(message, _)| {
        (message, "write http = \"http://127.0.0.1:8080/healthz\"".to_string())
    })?;
    Ok(format!("{scheme}{authority}{slash}{path}"))
}
