//! One request at a time, with the redirections followed by hand: the token goes to the server that it is for and to no other.

use std::net::IpAddr;
use std::time::Duration;

use chiasm_core::{Cancel, Cancelled};
use ureq::http::{HeaderMap, Uri};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

use crate::digest::Stated;
use crate::error::HubError;

/// Redirections that are followed.
const HOPS_MAX: usize = 8;
/// Times that something is tried before it counts as broken.
pub(crate) const TRIES: u32 = 5;

/// How models are fetched.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// The server: `https://huggingface.co` or a mirror of it.
    pub endpoint: String,
    /// The user's token, which only that server sees.
    pub token: Option<String>,
    /// What says that there shall be no network, if something does.
    pub offline: Option<&'static str>,
    /// The wait after the first failure; it doubles with each.
    pub wait: Duration,
    /// How long a silent connection is waited for.
    pub silence: Duration,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            endpoint: "https://huggingface.co".to_owned(),
            token: None,
            offline: None,
            wait: Duration::from_secs(1),
            silence: Duration::from_secs(30),
        }
    }
}

impl HubConfig {
    /// What the variables `HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE` say, as Hugging Face's own tools read them; `offline` is the
    /// command line's word.
    pub fn from_env(offline: bool) -> Self {
        let var = |name: &str| std::env::var(name).ok().map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        let yes = |v: String| matches!(v.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on");
        let silent = Self::default();
        let by = if offline {
            Some("--offline was given")
        } else {
            var("HF_HUB_OFFLINE").is_some_and(yes).then_some("HF_HUB_OFFLINE is set")
        };
        Self { endpoint: var("HF_ENDPOINT").unwrap_or(silent.endpoint), token: var("HF_TOKEN"), offline: by, ..silent }
    }
}

/// A server of models.
pub struct Hub {
    pub(crate) config: HubConfig,
    /// Without a slash at its end.
    pub(crate) endpoint: String,
    home: Uri,
    agent: Agent,
}

/// An answer whose body is still to come.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    /// What the server and those it sent us to state of the file.
    pub(crate) stated: Stated,
}

/// Why there is no answer.
pub(crate) enum Failure {
    /// The network: may be tried again.
    Transport(String),
    /// What is not done, however often it is tried.
    Final(HubError),
}

impl Hub {
    /// A server by its address. Nothing is sent yet.
    ///
    /// # Errors
    /// [`HubError::Endpoint`].
    pub fn new(config: HubConfig) -> Result<Self, HubError> {
        let endpoint = config.endpoint.trim_end_matches('/').to_owned();
        let wrong = || HubError::Endpoint { endpoint: endpoint.clone() };
        let home: Uri = endpoint.parse().map_err(|_| wrong())?;
        let known = matches!(home.scheme_str(), Some("http" | "https"));
        let bare = home.authority().is_some_and(|a| !a.as_str().contains('@')) && home.query().is_none();
        if !known || !bare {
            return Err(wrong());
        }
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let builder = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .tls_config(tls)
            .user_agent(concat!("chiasm/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(config.silence))
            .timeout_connect(Some(config.silence))
            .timeout_recv_response(Some(config.silence))
            .timeout_per_read(Some(config.silence));
        // A proxy is for the world outside, not for a server on this machine.
        let builder = if is_loopback(&home) { builder.proxy(None) } else { builder };
        Ok(Self { agent: builder.build().new_agent(), config, endpoint, home })
    }

    /// Asks for an address of the server, from byte `from` on where that is above 0.
    pub(crate) fn get(&self, url: &str, from: u64) -> Result<Reply, Failure> {
        let refuse = |what: &Uri, reason: String| Failure::Final(HubError::Refused { what: what.to_string(), reason });
        let mut uri: Uri = url.parse().map_err(|_| Failure::Final(HubError::Endpoint { endpoint: url.to_owned() }))?;
        let mut stated = Stated::default();
        for _ in 0..HOPS_MAX {
            let mut request = self.agent.get(&uri);
            if let Some(token) = self.config.token.as_ref().filter(|_| self.may_see_token(&uri)) {
                request = request.header("Authorization", format!("Bearer {token}"));
            }
            if from > 0 {
                request = request.header("Range", format!("bytes={from}-"));
            }
            let response = request.call().map_err(|e| Failure::Transport(e.to_string()))?;
            let (parts, body) = response.into_parts();
            note(&parts.headers, &mut stated);
            let status = parts.status.as_u16();
            if !matches!(status, 301 | 302 | 303 | 307 | 308) {
                return Ok(Reply { status, headers: parts.headers, body, stated });
            }
            let location = header(&parts.headers, "location").unwrap_or_default();
            let next = join(&uri, location).ok_or_else(|| refuse(&uri, "it sends us to nowhere".to_owned()))?;
            if uri.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                return Err(refuse(&next, "it would be fetched without encryption".to_owned()));
            }
            uri = next;
        }
        Err(refuse(&uri, format!("it sends us on more than {HOPS_MAX} times")))
    }

    /// The same, tried again while the network or the server is out of order.
    pub(crate) fn get_patiently(&self, name: &str, url: &str, cancel: &Cancel) -> Result<Reply, HubError> {
        let mut tries = 1;
        loop {
            cancel.check()?;
            let failed = match self.get(url, 0) {
                Ok(reply) if is_passing(reply.status) => (None, reply.status),
                Ok(reply) => return Ok(reply),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Transport(reason)) => (Some(reason), 0),
            };
            if tries >= TRIES {
                return Err(match failed {
                    (Some(reason), _) => {
                        HubError::Unreachable { name: name.to_owned(), endpoint: self.endpoint.clone(), reason }
                    }
                    (None, status) => HubError::Status { url: url.to_owned(), status, reason: None },
                });
            }
            self.wait(tries, cancel)?;
            tries += 1;
        }
    }

    /// Waits after a failure, longer after each.
    pub(crate) fn wait(&self, tries: u32, cancel: &Cancel) -> Result<(), Cancelled> {
        let step = Duration::from_millis(50);
        let mut left = self.config.wait * 2u32.saturating_pow(tries.saturating_sub(1)).min(64);
        while !left.is_zero() {
            cancel.check()?;
            std::thread::sleep(left.min(step));
            left = left.saturating_sub(step);
        }
        cancel.check()
    }

    /// The token is for the server that was named, by the way that was named, and crosses no network unencrypted.
    fn may_see_token(&self, uri: &Uri) -> bool {
        let same = uri.scheme() == self.home.scheme() && origin(uri) == origin(&self.home);
        same && (uri.scheme_str() == Some("https") || is_loopback(uri))
    }
}

/// Whether a status may be another one soon.
pub(crate) fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 429 | 500..=599)
}

/// A header as text.
pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// What the headers state of a file. The first word holds: it is that of the server that was asked.
fn note(headers: &HeaderMap, stated: &mut Stated) {
    let tag = |name: &str| header(headers, name).map(|v| v.trim_start_matches("W/").trim_matches('"').to_ascii_lowercase());
    let of = |length: usize| move |v: &String| v.len() == length && v.bytes().all(|b| b.is_ascii_hexdigit());
    let linked = tag("x-linked-etag");
    stated.sha256 = stated.sha256.take().or_else(|| linked.clone().filter(of(64))).or_else(|| tag("etag").filter(of(64)));
    // Where a file is linked to, the plain tag is that of the storage.
    if linked.is_none() && stated.sha256.is_none() {
        stated.git = stated.git.take().or_else(|| tag("etag").filter(of(40)));
    }
    stated.bytes = stated.bytes.or_else(|| header(headers, "x-linked-size").and_then(|v| v.parse().ok()));
}

/// Host and port.
fn origin(uri: &Uri) -> Option<(String, u16)> {
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    Some((uri.host()?.to_ascii_lowercase(), port))
}

fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Where a `Location` leads to.
fn join(from: &Uri, location: &str) -> Option<Uri> {
    let (scheme, authority) = (from.scheme_str()?, from.authority()?);
    let whole = if location.starts_with("http://") || location.starts_with("https://") {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        return None;
    };
    let uri: Uri = whole.parse().ok()?;
    uri.authority().is_some_and(|a| !a.as_str().contains('@')).then_some(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(endpoint: &str) -> Result<Hub, HubError> {
        Hub::new(HubConfig { endpoint: endpoint.to_owned(), token: Some("secret".to_owned()), ..HubConfig::default() })
    }

    #[test]
    fn the_token_goes_to_its_server_alone() {
        let home = hub("https://huggingface.co/").unwrap();
        let sees = |hub: &Hub, uri: &str| hub.may_see_token(&uri.parse().unwrap());
        assert!(sees(&home, "https://huggingface.co/api/models/a/b") && sees(&home, "https://HuggingFace.co:443/x"));
        for other in [
            "http://huggingface.co/x",
            "https://huggingface.co:8443/x",
            "https://huggingface.co.evil.example/x",
            "https://cdn-lfs.huggingface.co/x",
            "https://evil.example/huggingface.co",
        ] {
            assert!(!sees(&home, other), "{other}");
        }
        // Over a network it is never sent in the clear.
        assert!(!sees(&hub("http://mirror.example").unwrap(), "http://mirror.example/x"));
        assert!(sees(&hub("http://127.0.0.1:8080").unwrap(), "http://127.0.0.1:8080/x"));
    }

    #[test]
    fn addresses_are_checked() {
        assert!(hub("https://mirror.example/hugging/face/").is_ok());
        for bad in ["", "huggingface.co", "ftp://x", "https://", "https://user@host", "https://x/?a=b", "file:///etc", "a b"] {
            assert!(matches!(hub(bad), Err(HubError::Endpoint { .. })), "{bad}");
        }
        let from: Uri = "https://a.example:8/b/c?d".parse().unwrap();
        let to = |location: &str| join(&from, location).map(|uri| uri.to_string());
        assert_eq!(to("/x?y=z").unwrap(), "https://a.example:8/x?y=z");
        assert_eq!(to("https://b.example/x").unwrap(), "https://b.example/x");
        assert_eq!(to("//b.example/x").unwrap(), "https://b.example/x");
        for bad in ["", "x", "file:///etc/passwd", "javascript:x", "https://user:word@b.example/x", "https://"] {
            assert_eq!(to(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_first_word_on_a_file_holds() {
        let headers = |pairs: &[(&'static str, &str)]| -> HeaderMap {
            pairs.iter().map(|(k, v)| (k.parse::<ureq::http::HeaderName>().unwrap(), v.parse().unwrap())).collect()
        };
        let (sha, other, git) = ("a".repeat(64), "b".repeat(64), "c".repeat(40));
        let mut stated = Stated::default();
        note(
            &headers(&[("etag", &format!("\"{git}\"")), ("x-linked-etag", &format!("\"{sha}\"")), ("x-linked-size", "7")]),
            &mut stated,
        );
        note(&headers(&[("etag", &format!("\"{other}\"")), ("x-linked-size", "8")]), &mut stated);
        assert_eq!(stated, Stated { bytes: Some(7), sha256: Some(sha), git: None });
        let mut stated = Stated::default();
        note(&headers(&[("etag", &format!("W/\"{}\"", git.to_uppercase()))]), &mut stated);
        assert_eq!(stated.git, Some(git));
    }
}
