"""Sentences for synthetic speech: GRID-like commands and free word strings, written for this project."""

from __future__ import annotations

import numpy as np

_GRID = (
    "bin lay place set",
    "blue green red white",
    "at by in with",
    "a b c d e f g h i j k l m n o p q r s t u v x y z",
    "zero one two three four five six seven eight nine",
    "again now please soon",
)

_WORDS = {
    "en": (
        "people maybe before problem number remember summer bubble happy apple paper opening important family "
        "move moment room boom food blue you who two through soon music future beautiful few new view voice "
        "father water all more four door morning warm walk talk thought caught law small home open over only "
        "go show know slow cold old boat both see he she me teeth these green street leave feel believe piece "
        "cat that have hand back black happen family man stand ask class laugh car heart large part start far "
        "time my might life five fire bright why eye day they make take name wait great late play face boy "
        "noise join point house out now how down sound brown think thing with other weather this there those "
        "ship shoe she wish fish measure vision pleasure church watch teacher much jump large bridge age june "
        "very voice give love never every river zoo easy busy is was first bird word work turn girl world her "
        "run up love come one under sun but much good book put would look foot full woman get said friend ten "
        "best red head seven help many bed left sit in big minute which system city little live milk hello yes "
        "the a of and to for from by we be it at on or an if as so no not can will just about after long year"
    ),
    "de": (
        "guten morgen wie geht es ihnen ich möchte bitte ein bier und wasser über fünf schöne bücher mutter vater "
        "baum haus mann frau zeit leben immer wieder zwischen wörter frühling sommer herbst winter papa mama pause "
        "eine kleine große straße nicht auch noch dann machen sprechen hören können müssen heute abend apfel blume"
    ),
    "fr": (
        "bonjour tout le monde je voudrais un peu de pain avec du beurre maman papa beaucoup bien sûr une femme "
        "petit grand maison rue lumière peut être demain matin vous nous avons parler écouter comprendre heureux "
        "pomme bouteille blanc vin chanson voiture homme jamais toujours fumée plume bleu jeune deux feu"
    ),
    "es": (
        "hola buenos días por favor una mesa para dos personas el perro la casa mañana siempre nunca bueno malo "
        "padre madre hermano ventana puerta agua vino pan manzana caballo verde azul blanco negro hablar escuchar"
    ),
    "it": (
        "buongiorno come va bene grazie per favore una bottiglia di vino mamma papà bambino fiume montagna bello "
        "parlare sempre domani mattina sera pomodoro pane acqua luna sole amore vita giorno notte mare"
    ),
    "pt": (
        "bom dia tudo bem obrigado por favor um copo de água mãe pai menino praia sempre nunca amanhã noite "
        "falar ouvir comer beber bonito feliz banana peixe pão lua sol mar verde vermelho"
    ),
}


def random_sentence(language: str, rng: np.random.Generator) -> str:
    """3 to 8 random words with a pause now and then; for English one in four is a GRID-like command."""
    if language == "en" and rng.random() < 0.25:
        return " ".join(str(rng.choice(slot.split())) for slot in _GRID) + "."
    words = _WORDS[language].split()
    count = int(rng.integers(3, 9))
    chosen = [str(w) for w in rng.choice(words, count)]
    if count > 4 and rng.random() < 0.4:
        chosen[count // 2] += ","
    return " ".join(chosen) + "."
