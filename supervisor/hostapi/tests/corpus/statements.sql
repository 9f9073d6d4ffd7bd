SELECT id, name FROM items WHERE id = ? AND name LIKE '%x''y%' ORDER BY id DESC LIMIT 10 OFFSET ?
--
WITH RECURSIVE tree(id, depth) AS (SELECT id, 0 FROM items UNION ALL SELECT c.id, t.depth + 1 FROM items c JOIN tree t ON c.parent = t.id) SELECT * FROM tree
--
SELECT "a"."b", [c d], `e`, x'00ff', 0x1F, 1e-3, .5 FROM main."users" AS u LEFT JOIN (orders o, [order lines]) USING (id) -- comment
--
INSERT INTO items (id, name) VALUES (?1, ?2), (?1 + 1, upper(?2)) ON CONFLICT (id) DO UPDATE SET name = excluded.name WHERE items.id > 3
--
UPDATE OR IGNORE items SET (a, b) = (SELECT 1, max(id) FROM orders), c = c || '!' FROM users WHERE users.id = items.id
--
WITH t AS (SELECT * FROM users) DELETE FROM items WHERE id IN (SELECT id FROM t) OR EXISTS (VALUES (1))
--
CREATE TABLE IF NOT EXISTS gk_things (id INTEGER PRIMARY KEY AUTOINCREMENT, owner INT REFERENCES users (id) ON DELETE CASCADE, n TEXT DEFAULT (lower('X')) CHECK (length(n) < 9), UNIQUE (owner, n)) STRICT
--
ALTER TABLE gk_things RENAME TO gk_other
--
CREATE UNIQUE INDEX IF NOT EXISTS gk_i ON gk_things (lower(n) DESC) WHERE n IS NOT NULL
--
DROP INDEX IF EXISTS main.gk_i
--
SELECT count(*) FILTER (WHERE a > 1) OVER (PARTITION BY b ORDER BY c ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW), CASE a WHEN 1 THEN 'x' ELSE CAST(b AS TEXT) END FROM items, json_each(items.tags) AS j WHERE a -> '$.x' ->> 'y' NOT BETWEEN 1 AND 2 GROUP BY 1 HAVING count(*) > 1 /* end */;
--
SELECT 1 UNION ALL SELECT 2 EXCEPT VALUES (3), (4) INTERSECT SELECT id FROM items
