//! Who may ask: tokens, each with a name and a scope, kept as digests in the library's folder.
//!
//! A token is 32 random bytes, so its plain BLAKE3 digest can be turned back by nobody, and needs no slow hash as a password would. Digests are
//! compared in constant time (`blake3::Hash`). The file is read again when it has changed, so that a token that was taken away is refused from then on.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRng as _;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The file in a library's folder.
const FILE_NAME: &str = "tokens.json";
/// What every token begins with, so that it is known for one where it lies about.
const PREFIX: &str = "chiasm_";

/// What a caller may do; each scope includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Search and look.
    Read,
    /// Add and remove items, tag them.
    Write,
    /// Index folders of the server's machine, look for folders there, make a library.
    Admin,
}

impl Scope {
    /// `read`, `write` or `admin`.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Write => "write",
            Scope::Admin => "admin",
        }
    }

    /// Itself and those it includes.
    pub(crate) fn included(self) -> Vec<Scope> {
        [Scope::Read, Scope::Write, Scope::Admin].into_iter().filter(|scope| *scope <= self).collect()
    }
}

/// What is kept of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// What its owner calls it.
    pub name: String,
    /// What it is good for.
    pub scope: Scope,
    /// BLAKE3 of the token, hexadecimal.
    digest: String,
}

/// Why tokens could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read or written.
    #[error("{}: {doing}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no list of tokens.
    #[error("{} is no list of tokens: {reason}; delete it and make them anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A name that is taken.
    #[error("there is a token called `{0}` already: take it away first, or choose another name")]
    Exists(String),
    /// A name that is not there.
    #[error("there is no token called `{0}`")]
    Unknown(String),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
}

/// The tokens of a library.
#[derive(Debug)]
pub struct Tokens {
    path: PathBuf,
    read: Mutex<(Option<SystemTime>, Vec<Token>)>,
}

impl Tokens {
    /// Those of the library in `dir`.
    pub fn of(dir: &Path) -> Tokens {
        Tokens { path: dir.join(FILE_NAME), read: Mutex::new((None, Vec::new())) }
    }

    /// All of them.
    ///
    /// # Errors
    /// [`TokenError::Io`], [`TokenError::Damaged`].
    pub fn list(&self) -> Result<Vec<Token>, TokenError> {
        let changed = match std::fs::metadata(&self.path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(self.io("cannot be looked at", source)),
            Ok(metadata) => metadata.modified().ok(),
        };
        let mut read = self.read.lock().unwrap_or_else(|e| e.into_inner());
        // A time that is less than a second old may be that of two writes.
        let settled = changed.is_some_and(|t| t.elapsed().is_ok_and(|age| age.as_secs() >= 1));
        if !settled || read.0 != changed {
            let bytes = std::fs::read(&self.path).map_err(|e| self.io("cannot be read", e))?;
            let damaged = |e: serde_json::Error| TokenError::Damaged { path: self.path.clone(), reason: e.to_string() };
            *read = (changed, serde_json::from_slice(&bytes).map_err(damaged)?);
        }
        Ok(read.1.clone())
    }

    /// Makes a token and gives it: the one time that it can be seen.
    ///
    /// # Errors
    /// [`TokenError::Exists`], [`TokenError::Io`], [`TokenError::Damaged`], [`TokenError::Random`].
    pub fn add(&self, name: &str, scope: Scope) -> Result<String, TokenError> {
        let mut tokens = self.list()?;
        if tokens.iter().any(|token| token.name == name) {
            return Err(TokenError::Exists(name.to_owned()));
        }
        let mut bytes = [0; 32];
        rand::rngs::SysRng.try_fill_bytes(&mut bytes).map_err(|e| TokenError::Random(e.to_string()))?;
        let secret = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
        tokens.push(Token { name: name.to_owned(), scope, digest: blake3::hash(secret.as_bytes()).to_hex().to_string() });
        self.write(&tokens)?;
        Ok(secret)
    }

    /// Takes a token away: whoever has it is refused from now on.
    ///
    /// # Errors
    /// [`TokenError::Unknown`], [`TokenError::Io`], [`TokenError::Damaged`].
    pub fn remove(&self, name: &str) -> Result<(), TokenError> {
        let mut tokens = self.list()?;
        let n = tokens.len();
        tokens.retain(|token| token.name != name);
        if tokens.len() == n {
            return Err(TokenError::Unknown(name.to_owned()));
        }
        self.write(&tokens)
    }

    /// What a token is good for; `None` for one that is not known.
    ///
    /// # Errors
    /// [`TokenError::Io`], [`TokenError::Damaged`].
    pub(crate) fn scope_of(&self, secret: &str) -> Result<Option<Scope>, TokenError> {
        let given = blake3::hash(secret.as_bytes());
        let mut scope = None;
        // All of them are looked at, whichever it is.
        for token in self.list()? {
            if blake3::Hash::from_hex(&token.digest).is_ok_and(|digest| digest == given) {
                scope = Some(token.scope);
            }
        }
        Ok(scope)
    }

    /// The new list in place of the old one, whole or not at all; readable by its owner alone.
    fn write(&self, tokens: &[Token]) -> Result<(), TokenError> {
        let beside = self.path.with_extension(format!("json.{}", std::process::id()));
        let written = || -> std::io::Result<()> {
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create(true).truncate(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let mut file = options.open(&beside)?;
            file.write_all(&serde_json::to_vec_pretty(tokens)?)?;
            file.sync_all()?;
            std::fs::rename(&beside, &self.path)
        };
        written().map_err(|e| self.io("cannot be written", e))
    }

    fn io(&self, doing: &'static str, source: std::io::Error) -> TokenError {
        TokenError::Io { doing, path: self.path.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_until_it_is_taken_away_and_kept_as_a_digest() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens::of(dir.path());
        assert_eq!(tokens.scope_of("chiasm_x").unwrap(), None);
        let phone = tokens.add("phone", Scope::Read).unwrap();
        let desk = tokens.add("desk", Scope::Admin).unwrap();
        assert!(phone.len() > 45 && phone != desk);
        assert_eq!(
            (tokens.scope_of(&phone).unwrap(), tokens.scope_of(&desk).unwrap()),
            (Some(Scope::Read), Some(Scope::Admin))
        );
        assert_eq!(tokens.scope_of(&phone[1..]).unwrap(), None);
        let file = std::fs::read_to_string(dir.path().join(FILE_NAME)).unwrap();
        assert!(!file.contains(&phone) && file.contains("phone"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(std::fs::metadata(dir.path().join(FILE_NAME)).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert!(matches!(tokens.add("phone", Scope::Write), Err(TokenError::Exists(_))));
        // By another process.
        Tokens::of(dir.path()).remove("phone").unwrap();
        assert_eq!(tokens.scope_of(&phone).unwrap(), None);
        assert!(matches!(tokens.remove("phone"), Err(TokenError::Unknown(_))));
        std::fs::write(dir.path().join(FILE_NAME), "[{").unwrap();
        assert!(matches!(tokens.scope_of(&desk), Err(TokenError::Damaged { .. })));
    }

    #[test]
    fn scopes_include_those_below() {
        assert_eq!(Scope::Write.included(), [Scope::Read, Scope::Write]);
        assert!(Scope::Admin > Scope::Write && Scope::Write > Scope::Read);
    }
}
