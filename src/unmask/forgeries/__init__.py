"""Made-up fakes and worsened copies: blending, the sample, `unmask fake`, degradations.

It knows faces and pixels. It knows neither splits nor detectors of fakes.
"""
