-- What format 2 adds to format 1: further models of one library, each with vectors of its own.

-- One row per lane, the first with number 1. `space` is the fingerprint; the space itself stands in a file of its own.
-- `complete` is 0 while items that were there before the lane may lack its vectors.
CREATE TABLE lanes (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    name     TEXT NOT NULL UNIQUE,
    space    TEXT NOT NULL UNIQUE,
    complete INTEGER NOT NULL
) STRICT;

-- Vectors of the lanes from the second on; those of the first stand in `vectors`, as in format 1.
CREATE TABLE lane_vectors (
    segment INTEGER NOT NULL REFERENCES segments (id) ON DELETE CASCADE,
    lane    INTEGER NOT NULL REFERENCES lanes (id) ON DELETE CASCADE,
    vector  BLOB NOT NULL,
    PRIMARY KEY (segment, lane)
) STRICT, WITHOUT ROWID;

-- Parts that one lane's model can make nothing of, while another's can: they have no vector there, and are not tried again.
CREATE TABLE gaps (
    segment INTEGER NOT NULL REFERENCES segments (id) ON DELETE CASCADE,
    lane    INTEGER NOT NULL REFERENCES lanes (id) ON DELETE CASCADE,
    reason  TEXT NOT NULL,
    PRIMARY KEY (segment, lane)
) STRICT, WITHOUT ROWID;
