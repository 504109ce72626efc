"""A Flask application: letters are ordered by a view and written by a worker."""

from __future__ import annotations

from flask import Flask, request

from sandboxq.integrations.flask import Sandboxq

sandboxq = Sandboxq()


def create_app() -> Flask:
    """Return the application; `flask` and the worker's children call this."""
    app = Flask(__name__)
    app.config["SIGNATURE"] = "The shop"
    app.config.from_prefixed_env()  # FLASK_SANDBOXQ_URL, for example
    sandboxq.init_app(app)

    @app.post("/letters")
    def order() -> tuple[dict[str, str], int]:
        job = sandboxq.queue("letters").add("letter", {"to": request.form["to"]}, attempts=3)
        return {"job": job.id}, 202

    @app.get("/letters/<job_id>")
    def show(job_id: str) -> dict[str, object] | tuple[dict[str, object], int]:
        job = sandboxq.queue("letters").get_job(job_id)
        if job is None:
            return {"error": "no such letter"}, 404
        return {"state": job.state(), "text": job.returnvalue}

    return app
