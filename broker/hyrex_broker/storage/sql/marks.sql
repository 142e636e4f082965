-- name: load_marks
-- Low-water marks. None is nearer to the present than the longest statement that inserts (3 s), even if the
-- database's clock has gone back. $1 whether those of other heads are wanted (lane 0; by rank, see marks.py), or
-- those of `ready`.
select lane, rank, least(mark, now() - interval '3 seconds') as mark
from low_water_mark where (lane = 0) = $1::boolean

-- name: save_marks
-- Keeps low-water marks; the higher one wins. $1 lane, $2 rank, $3 mark: arrays in (lane, rank) order.
insert into low_water_mark (lane, rank, mark)
select * from unnest($1::integer[], $2::smallint[], $3::timestamptz[])
on conflict (lane, rank) do update set mark = excluded.mark
where low_water_mark.mark < excluded.mark

-- name: lower_mark
-- Lowers a mark, where it is higher. $1 lane, $2 rank, $3 mark.
update low_water_mark set mark = $3::timestamptz where lane = $1 and rank = $2 and mark > $3
