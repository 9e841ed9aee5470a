"""The smallest useful application: run it with ``flask --app quickstart run``."""

from flask import Flask

from retell_flask import CallEvent, RetellBlueprint, call_analyzed, call_ended, call_started

retell = RetellBlueprint()  # reads RETELL_API_KEY from app.config, then the environment


@call_started.connect_via(retell)
def greet(sender, event: CallEvent, **extra):
    call = event.call
    print(f"{call.from_number} is talking to {call.agent_name} since {call.started_at}")


@call_ended.connect_via(retell)
def store_call(sender, event: CallEvent, **extra):
    call = event.call
    print(f"{call.call_id} took {call.duration} and ended by {call.disconnection_reason}")
    print(call.transcript)


@call_analyzed.connect_via(retell)
def follow_up(sender, event: CallEvent, **extra):
    analysis = event.call.analysis
    if analysis:
        print(f"The caller was {analysis.sentiment}: {analysis.summary}")


def create_app():
    app = Flask(__name__)
    app.register_blueprint(retell)  # POST /webhooks/retellai
    return app
