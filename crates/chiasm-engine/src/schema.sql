-- Format 1 of a library's database, to which lanes.sql adds format 2. docs/library-format.md explains them; a change needs a new
-- number and a step in store.rs.

-- library (random, 16 bytes hex), space (fingerprint), generation (counts changes), program (that made it).
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Files and folders that were indexed, as bytes of the absolute path.
CREATE TABLE roots (
    path BLOB PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- One row per content. Numbers are never used twice.
CREATE TABLE items (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    hash       BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
    kind       TEXT NOT NULL,
    format     TEXT NOT NULL,
    size       INTEGER NOT NULL,
    width      INTEGER,
    height     INTEGER,
    duration_s REAL,
    taken      TEXT,
    latitude   REAL,
    longitude  REAL
) STRICT;

-- Where contents lie. `folder` and `name` are the path as text, for filters only: the bytes are the truth.
-- `settled` is 0 when the file was written so shortly before it was read that a later write could leave the same time.
CREATE TABLE paths (
    path     BLOB PRIMARY KEY,
    folder   TEXT NOT NULL,
    name     TEXT NOT NULL,
    size     INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    settled  INTEGER NOT NULL,
    item     INTEGER NOT NULL REFERENCES items (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX paths_item ON paths (item);

-- Texts beside media files that describe them.
CREATE TABLE captions (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    item     INTEGER NOT NULL REFERENCES items (id) ON DELETE CASCADE,
    path     BLOB NOT NULL,
    size     INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    settled  INTEGER NOT NULL,
    hash     BLOB NOT NULL CHECK (length(hash) = 32),
    UNIQUE (item, path)
) STRICT;
CREATE INDEX captions_path ON captions (path);

-- Parts of items, each with one vector. `modality` is the item's kind, or text for parts of a caption.
-- Without `span_unit` the part is the whole; `s` counts seconds, `byte` bytes of the text.
CREATE TABLE segments (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    item       INTEGER NOT NULL REFERENCES items (id) ON DELETE CASCADE,
    caption    INTEGER REFERENCES captions (id) ON DELETE CASCADE,
    modality   TEXT NOT NULL,
    span_unit  TEXT,
    span_start REAL,
    span_end   REAL
) STRICT;
CREATE INDEX segments_item ON segments (item);
CREATE INDEX segments_caption ON segments (caption) WHERE caption IS NOT NULL;

-- f32 little-endian, as many as the space has dimensions. Apart from `segments`, so that filters read few pages.
CREATE TABLE vectors (
    segment INTEGER PRIMARY KEY REFERENCES segments (id) ON DELETE CASCADE,
    vector  BLOB NOT NULL
) STRICT;

-- The words of text segments, and an index of every three letters in a row: it serves languages without spaces.
CREATE TABLE texts (
    segment INTEGER PRIMARY KEY REFERENCES segments (id) ON DELETE CASCADE,
    body    TEXT NOT NULL
) STRICT;
CREATE VIRTUAL TABLE words USING fts5 (body, content = 'texts', content_rowid = 'segment', tokenize = 'trigram');
CREATE TRIGGER texts_added AFTER INSERT ON texts BEGIN
    INSERT INTO words (rowid, body) VALUES (new.segment, new.body);
END;
CREATE TRIGGER texts_removed AFTER DELETE ON texts BEGIN
    INSERT INTO words (words, rowid, body) VALUES ('delete', old.segment, old.body);
END;

-- Files that could not be taken in. `lasting` is 1 when only another content or another program could change that.
CREATE TABLE refusals (
    path     BLOB PRIMARY KEY,
    reason   TEXT NOT NULL,
    size     INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    lasting  INTEGER NOT NULL,
    program  TEXT NOT NULL
) STRICT, WITHOUT ROWID;
