"""How the phone sets of flite, festival and some espeak-ng languages map into `model.speech.phonemes.PHONEMES`.

Sources: the phone set tables that each voice carries (CMU us/radio phones; IFD Italian; Suopuhe Finnish; UPC Catalan
SAMPA; Brailcom Czech; MSU Russian). Affricates of t and s (`ts`) count as `s`, as in `phoneme_from_ipa`.
"""

from __future__ import annotations

from typing import Final

from model.errors import DataError
from model.speech.phonemes import INDEX, phoneme_from_ipa

__all__ = ["PHONE_SETS", "phoneme_from_espeak", "phoneme_from_phone_set"]


def _table(text: str) -> dict[str, str]:
    return dict(pair.split("=") for pair in text.split())


PHONE_SETS: Final = {
    "us": _table("pau=sil h#=sil brth=sil axr=er ax=ax ix=ih ux=uw dx=d el=l em=m en=n nx=n hv=hh"),
    "fi": _table(
        "#=sil ##=sil a=aa e=eh i=iy o=ao u=uw y=ue @=ae 7=oe &=ax p=p t=t k=k b=b d=d g=g f=f T=th D=dh s=s z=z"
        " S=sh Z=zh h=hh v=v m=m n=n N=ng l=l L=l r=r j=y w=w"
    ),
    "it": _table(
        "#=sil i=iy e=eh E=eh a=aa o=ao O=ao u=uw i1=iy e1=eh E1=eh a1=aa o1=ao O1=ao u1=uw j=y w=w p=p t=t k=k"
        " b=b d=d g=g f=f s=s S=sh v=v z=z Z=zh ts=s tS=ch dz=z dZ=jh m=m n=n J=n ng=ng nf=m l=l L=l r=r"
    ),
    "ca": _table(
        "pau=sil _=sil #=sil ax=ax a=aa a1=aa e=eh e1=eh E=eh E1=eh i=iy i1=iy o=ao o1=ao O=ao O1=ao u=uw u1=uw"
        " b=b d=d f=f g=g j=y J=n k=k l=l L=l m=m n=n N=ng p=p r=d rr=r s=s S=sh t=t w=w z=z Z=zh"
    ),
    "cs": _table(
        "#=sil _=sil a=aa a:=aa b=b c=s c~=ch ch=kh d=d d~=d dz=z dz~=jh e=eh e:=eh f=f g=g h=hh i=iy i:=iy j=y"
        " k=k l=l m=m n=n n*=ng n~=n o=ao o:=ao p=p r=r r~=zh r~*=sh s=s s~=sh t=t t~=t u=uw u:=uw v=v z=z z~=zh"
    ),
    "ru": _table(
        "pau=sil ii=iy yy=ih uu=uw ee=eh oo=ao aa=aa a=ax e=eh i=iy y=ih u=uw ae=ax ay=ax ur=uh p=p pp=p b=b bb=b"
        " t=t tt=t d=d dd=d k=k kk=k g=g gg=g c=s ch=ch f=f ff=f v=v vv=v s=s ss=s z=z zz=z sh=sh sch=sh zh=zh h=kh"
        " hh=kh m=m mm=m n=n nn=n l=l ll=l r=r rr=r j=y"
    ),
}
"""Phone names of each set; `us` lists only those that are not ARPAbet's own."""

_PALATAL_STOPS: Final = {"c": "k", "ɟ": "g"}
_ESPEAK: Final = {
    "el": _PALATAL_STOPS,
    "tr": _PALATAL_STOPS,
    "hi": {"c": "ch", "cʰ": "ch", "ɟ": "jh", "ɟʰ": "jh"},
    "ru": {"y": "ih"},
    "ro": {"yɪ": "ih", "ea": "aa", "oa": "aa"},
    "sv": {"sx": "sh"},
}
"""Symbols that espeak-ng uses with another sound in one language than in the rest."""


def phoneme_from_phone_set(phone: str, phone_set: str) -> str:
    """Our phoneme for a phone of one of `PHONE_SETS`; a length mark (`a:`) may follow. DataError when unknown."""
    table = PHONE_SETS[phone_set]
    for name in (phone, phone.removesuffix(":")):
        if name in table:
            return table[name]
        if phone_set == "us" and name in INDEX:
            return name
    raise DataError(
        f"phone {phone!r} of phone set {phone_set!r} has no phoneme: add it to model/data/voices/phone_sets.py"
    )


def phoneme_from_espeak(symbol: str, language: str) -> str:
    """Our phoneme for what espeak-ng writes in a language (ISO 639-1); "" for a pause; DataError when unknown."""
    special = _ESPEAK.get(language, {})
    if symbol in special:
        return special[symbol]
    try:
        return phoneme_from_ipa(symbol)
    except KeyError as error:
        raise DataError(
            f"espeak-ng symbol {symbol!r} ({language}) has no phoneme: add it to model/data/voices/phone_sets.py"
        ) from error
