"""What stands at / where Gradio is not installed: how programs ask, in words."""

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

HOW = 'The page needs gradio: pip install "unmask[serve]"'

_PAGE = f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>unmask: is this face real?</title></head>
<body>
<h1>Is this face real?</h1>
<p>This server answers programs: send a video's bytes to <code>api/predict</code> for an answer as
JSON, or to <code>api/report</code> for a page.</p>
<pre>curl --data-binary @clip.mp4 ADDRESS/api/predict?name=clip.mp4</pre>
<p>For whoever runs it: {HOW.replace('"', "&quot;")}</p>
</body>
</html>
"""


def mount(app: FastAPI) -> None:
    """Answer at / in the place of the page."""

    @app.get("/")
    async def index() -> HTMLResponse:
        return HTMLResponse(_PAGE)
