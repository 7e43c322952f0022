//! What the server says a model consists of.

use std::collections::BTreeMap;
use std::io::Read;

use chiasm_core::Cancel;
use chiasm_encode::ModelName;
use serde::Deserialize;

use crate::client::{Hub, header};
use crate::digest::Stated;
use crate::error::HubError;

/// Bytes of a listing at most.
const LISTING_LEN_MAX: u64 = 1 << 24;

/// The files of a model at one commit.
pub(crate) struct Listing {
    pub(crate) commit: String,
    pub(crate) files: BTreeMap<String, Stated>,
}

#[derive(Deserialize)]
struct Info {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    #[serde(alias = "oid")]
    sha256: Option<String>,
    size: Option<u64>,
}

/// Asks for the files of a model.
pub(crate) fn of(hub: &Hub, name: &ModelName, cancel: &Cancel) -> Result<Listing, HubError> {
    let (repository, revision) = (name.repository(), name.revision());
    let url = format!("{}/api/models/{repository}/revision/{revision}?blobs=true", hub.endpoint);
    let reply = hub.get_patiently(&name.to_string(), &url, cancel)?;
    let reason = header(&reply.headers, "x-error-message").map(str::to_owned);
    match reply.status {
        200 => {}
        404 if header(&reply.headers, "x-error-code") == Some("RevisionNotFound") => {
            return Err(HubError::Status { url, status: 404, reason: Some(format!("there is no revision `{revision}`")) });
        }
        status @ (401 | 403 | 404) => {
            let (name, endpoint) = (name.to_string(), hub.endpoint.clone());
            return Err(HubError::NotShown { name, endpoint, status, signed_in: hub.config.token.is_some() });
        }
        status => return Err(HubError::Status { url, status, reason }),
    }
    let mut text = Vec::new();
    let refuse = |reason: String| HubError::Refused { what: format!("the listing {url}"), reason };
    let read = reply.body.into_reader().take(LISTING_LEN_MAX + 1).read_to_end(&mut text);
    read.map_err(|e| refuse(format!("it broke off: {e}")))?;
    if text.len() as u64 > LISTING_LEN_MAX {
        return Err(refuse(format!("it has more than {LISTING_LEN_MAX} bytes")));
    }
    parse(&text).map_err(refuse)
}

/// Reads a listing, which comes from strangers: a name that leads anywhere refuses all of it.
fn parse(text: &[u8]) -> Result<Listing, String> {
    let info: Info = serde_json::from_slice(text).map_err(|e| format!("it is no listing of a model: {e}"))?;
    let hex = |v: &str, lengths: &[usize]| lengths.contains(&v.len()) && v.bytes().all(|b| b.is_ascii_hexdigit());
    if !hex(&info.sha, &[40, 64]) {
        return Err(format!("its commit is `{}`", info.sha.escape_default()));
    }
    let mut files = BTreeMap::new();
    for sibling in info.siblings {
        let name = sibling.rfilename;
        let leads_out = name.split(['/', '\\']).any(|part| matches!(part, "" | "." | "..")) || name.contains(['\\', ':']);
        if leads_out || name.chars().any(char::is_control) {
            return Err(format!("it names the file `{}`, which would lead out of the model's folder", name.escape_default()));
        }
        let lfs = sibling.lfs;
        let is_lfs = lfs.is_some();
        let (sha256, of_lfs) = lfs.map_or((None, None), |lfs| (lfs.sha256, lfs.size));
        let stated = Stated {
            bytes: of_lfs.or(sibling.size),
            sha256: sha256.filter(|v| hex(v, &[64])),
            // Of a large file git knows the pointer alone.
            git: sibling.blob_id.filter(|v| !is_lfs && hex(v, &[40])),
        };
        if files.insert(name.clone(), stated).is_some() {
            return Err(format!("it names the file `{}` twice", name.escape_default()));
        }
    }
    Ok(Listing { commit: info.sha, files })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(file: &str) -> String {
        let file = serde_json::to_string(file).unwrap();
        let sha = "a".repeat(40);
        format!(
            r#"{{"sha": "{sha}", "gated": false, "siblings": [{{"rfilename": "config.json", "size": 9}}, {{"rfilename": {file}}}]}}"#
        )
    }

    #[test]
    fn a_listing_that_leads_anywhere_is_refused_whole() {
        assert_eq!(parse(listing("onnx/model.onnx").as_bytes()).unwrap().files.len(), 2);
        for bad in [
            "../model.safetensors",
            "/etc/passwd",
            "a/../../b",
            "..",
            "a\\b",
            "C:x",
            "a//b",
            "a/",
            "",
            "./a",
            "a\nb",
            "a\0b",
            "config.json",
        ] {
            assert!(parse(listing(bad).as_bytes()).is_err(), "{bad:?}");
        }
        assert!(parse(b"<html>").is_err());
        assert!(parse(br#"{"sha": "../../x", "siblings": []}"#).is_err());
    }

    #[test]
    fn checksums_are_read_as_they_are_stated() {
        let (sha, git) = ("b".repeat(64), "c".repeat(40));
        let text = format!(
            r#"{{"sha": "{git}", "siblings": [
                {{"rfilename": "w", "size": 5, "blobId": "{git}", "lfs": {{"sha256": "{sha}", "size": 5, "pointerSize": 130}}}},
                {{"rfilename": "x", "size": 3, "blobId": "{git}"}}, {{"rfilename": "y"}}]}}"#
        );
        let files = parse(text.as_bytes()).unwrap().files;
        assert_eq!(files["w"], Stated { bytes: Some(5), sha256: Some(sha), git: None });
        assert_eq!(files["x"], Stated { bytes: Some(3), sha256: None, git: Some(git) });
        assert_eq!(files["y"], Stated::default());
    }
}
