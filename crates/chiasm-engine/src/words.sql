-- What makes texts, captions and names searchable by their words (words.rs). Derived from the other tables and kept up with them by every
-- writer; a library that lacks these tables gets them with its next change, and an older program keeps them true by the triggers alone,
-- so they need no format number.

-- Words of text segments and of the names of items, as words.rs writes them: reduced to their stems, scripts without spaces in pairs.
CREATE VIRTUAL TABLE terms USING fts5 (body, content = '', contentless_delete = 1, tokenize = 'porter unicode61 remove_diacritics 2');
CREATE VIRTUAL TABLE names USING fts5 (body, content = '', contentless_delete = 1, tokenize = 'porter unicode61 remove_diacritics 2');
CREATE TRIGGER terms_removed AFTER DELETE ON texts BEGIN
    DELETE FROM terms WHERE rowid = old.segment;
END;

-- Items whose names are to be read anew.
CREATE TABLE names_due (
    item INTEGER PRIMARY KEY
) STRICT;
CREATE TRIGGER names_added AFTER INSERT ON paths BEGIN
    INSERT OR IGNORE INTO names_due (item) VALUES (new.item);
END;
CREATE TRIGGER names_changed AFTER UPDATE ON paths BEGIN
    INSERT OR IGNORE INTO names_due (item) VALUES (new.item), (old.item);
END;
CREATE TRIGGER names_removed AFTER DELETE ON paths BEGIN
    INSERT OR IGNORE INTO names_due (item) VALUES (old.item);
END;
INSERT INTO names_due (item) SELECT id FROM items;
