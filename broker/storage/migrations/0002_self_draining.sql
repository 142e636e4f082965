-- serves brokers from: 1
--
-- A worker's own word that it wants no more work, apart from an operator's wish (`draining`): whoever
-- resumes the session must know both, and only the wish is told to the worker.

alter table worker_session add column self_draining boolean not null default false;
