"""Two well-known workflows with Hyrex: Celery's canvas, and the DAG of Airflow's tutorial."""
