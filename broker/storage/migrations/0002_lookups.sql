-- Indexes for people's lookups: what waits in a queue until a time, a task's children by age.

create index delayed_by_lane on delayed (lane, task_id);

drop index task_by_parent;
create index task_by_parent on task (parent_id, id) where parent_id is not null;
drop index task_by_root;
create index task_by_root on task (root_id, id) where root_id is not null;
