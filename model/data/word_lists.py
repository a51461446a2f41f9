"""Common words of each language that the synthetic voices speak, by ISO 639-1 code; written for this project."""

from __future__ import annotations

from typing import Final

__all__ = ["WORDS"]

WORDS: Final = {
    "en": (
        "people maybe before problem number remember summer bubble happy apple paper opening important family move "
        "moment room boom food blue you who two through soon music future beautiful few new view voice father water "
        "all more four door morning warm walk talk thought caught law small home open over only go show know slow "
        "cold old boat both see he she me teeth these green street leave feel believe piece cat that have hand back "
        "black happen family man stand ask class laugh car heart large part start far time my might life five fire "
        "bright why eye day they make take name wait great late play face boy noise join point house out now how down "
        "sound brown think thing with other weather this there those ship shoe she wish fish measure vision pleasure "
        "church watch teacher much jump large bridge age june very voice give love never every river zoo easy busy is "
        "was first bird word work turn girl world her run up love come one under sun but much good book put would "
        "look foot full woman get said friend ten best red head seven help many bed left sit in big minute which "
        "system city little live milk hello yes the a of and to for from by we be it at on or an if as so no not can "
        "will just about after long year"
    ),
    "de": (
        "guten morgen wie geht es ihnen ich möchte bitte ein bier und wasser über fünf schöne bücher mutter vater "
        "baum haus mann frau zeit leben immer wieder zwischen wörter frühling sommer herbst winter papa mama pause "
        "eine kleine große straße nicht auch noch dann machen sprechen hören können müssen heute abend apfel blume "
        "deutsch freund leute neu euro lang finger singen junge jacke hand hunger pferd kopf zahn katze spielen stein"
    ),
    "fr": (
        "bonjour tout le monde je voudrais un peu de pain avec du beurre maman papa beaucoup bien sûr une femme petit "
        "grand maison rue lumière peut être demain matin vous nous avons parler écouter comprendre heureux pomme "
        "bouteille blanc vin chanson voiture homme jamais toujours fumée plume bleu jeune deux feu rouge jour neige "
        "page jardin manger plage image chat chien chaud montagne gagner fille nuit huit lune"
    ),
    "es": (
        "hola buenos días por favor una mesa para dos personas el perro la casa mañana siempre nunca bueno malo padre "
        "madre hermano ventana puerta agua vino pan manzana caballo verde azul blanco negro hablar escuchar leche "
        "noche mucho ocho llave calle lluvia niño año zapato cielo cinco gente jugar rojo guerra queso hijo ciudad "
        "tiempo trabajo amigo fuego nieve viento"
    ),
    "it": (
        "buongiorno come va bene grazie per favore una bottiglia di vino mamma papà bambino fiume montagna bello "
        "parlare sempre domani mattina sera pomodoro pane acqua luna sole amore vita giorno notte mare famiglia "
        "figlio scena pesce zio pizza gnocchi cena ciao chiesa gente giallo uovo scuola fuoco cielo strada ragazzo "
        "bagno sognare cavallo latte forchetta tavolo finestra porta libro tempo mano occhio"
    ),
    "pt": (
        "bom dia tudo bem obrigado por favor um copo de água mãe pai menino praia sempre nunca amanhã noite falar "
        "ouvir comer beber bonito feliz banana peixe pão lua sol mar verde vermelho janela hoje gente jogo chuva "
        "chave filho olho trabalho vinho carro rua coração irmão leite cidade tempo homem mulher casa porta mesa "
        "escola livro tempo mão cabeça rio montanha cão gato cavalo jantar três quatro"
    ),
    "nl": (
        "goedemorgen hoe gaat het met u dank je wel een kopje koffie water brood kaas melk huis deur raam tafel stoel "
        "boek school kind vader moeder broer zus vriend dag nacht week maand jaar zon maan regen wind sneeuw groot "
        "klein goed slecht nieuw oud mooi lelijk rood blauw groen geel zwart wit eten drinken slapen lopen spreken "
        "horen zien denken geven nemen straat stad land zee vogel hond kat paard vis blijven schrijven uur"
    ),
    "pl": (
        "dzień dobry dziękuję proszę tak nie woda chleb mleko ser dom drzwi okno stół krzesło książka szkoła dziecko "
        "ojciec matka brat siostra przyjaciel noc tydzień miesiąc rok słońce księżyc deszcz wiatr śnieg duży mały "
        "dobry zły nowy stary ładny czerwony niebieski zielony żółty czarny biały jeść pić spać mówić słyszeć widzieć "
        "myśleć ulica miasto morze ptak pies kot koń ryba życie źródło ręka głowa czas góra rzeka żaba"
    ),
    "cs": (
        "dobrý den děkuji prosím ano ne voda chléb mléko sýr dům dveře okno stůl židle kniha škola dítě otec matka "
        "bratr sestra přítel noc týden měsíc rok slunce déšť vítr sníh velký malý nový starý hezký červený modrý "
        "zelený žlutý černý bílý jíst pít spát mluvit slyšet vidět myslet ulice město moře pták pes kočka kůň ryba "
        "život ruka hlava čas hora řeka žába čtyři pět šest sedm osm devět deset"
    ),
    "sv": (
        "god morgon tack så mycket ja nej vatten bröd mjölk ost hus dörr fönster bord stol bok skola barn far mor "
        "bror syster vän dag natt vecka månad år sol måne regn vind snö stor liten bra dålig ny gammal vacker röd blå "
        "grön gul svart vit äta dricka sova tala höra se tänka gata stad hav fågel hund katt häst fisk sjuk sjö kött "
        "köpa tjugo stjärna flicka pojke öga öra hand huvud tid berg flod"
    ),
    "fi": (
        "hyvää päivää kiitos ole hyvä kyllä ei vesi leipä maito juusto talo ovi ikkuna pöytä tuoli kirja koulu lapsi "
        "isä äiti veli sisko ystävä yö viikko kuukausi vuosi aurinko kuu sade tuuli lumi suuri pieni uusi vanha "
        "kaunis punainen sininen vihreä keltainen musta valkoinen syödä juoda nukkua puhua kuulla katsoa ajatella "
        "katu kaupunki meri lintu koira kissa hevonen kala elämä käsi pää aika vuori joki kolme neljä viisi kuusi"
    ),
    "tr": (
        "günaydın teşekkür ederim lütfen evet hayır su ekmek süt peynir ev kapı pencere masa sandalye kitap okul "
        "çocuk baba anne kardeş arkadaş gün gece hafta ay yıl güneş yağmur rüzgar kar büyük küçük iyi kötü yeni eski "
        "güzel kırmızı mavi yeşil sarı siyah beyaz yemek içmek uyumak konuşmak duymak görmek düşünmek sokak şehir "
        "deniz kuş köpek kedi at balık hayat el baş zaman dağ nehir ışık üç dört beş jandarma"
    ),
    "el": (
        "καλημέρα ευχαριστώ παρακαλώ ναι όχι νερό ψωμί γάλα τυρί σπίτι πόρτα παράθυρο τραπέζι καρέκλα βιβλίο σχολείο "
        "παιδί πατέρας μητέρα αδελφός φίλος μέρα νύχτα εβδομάδα μήνας χρόνος ήλιος φεγγάρι βροχή χιόνι μεγάλο μικρό "
        "καλό κακό νέο παλιό όμορφο κόκκινο μπλε πράσινο κίτρινο μαύρο άσπρο τρώω πίνω μιλάω ακούω βλέπω δρόμος πόλη "
        "θάλασσα πουλί σκύλος γάτα άλογο ψάρι ζωή χέρι κεφάλι βουνό ποτάμι δύο τρία"
    ),
    "ru": (
        "доброе утро спасибо пожалуйста да нет вода хлеб молоко сыр дом дверь окно стол стул книга школа ребёнок отец "
        "мать брат сестра друг день ночь неделя месяц год солнце луна дождь ветер снег большой маленький хороший "
        "плохой новый старый красивый красный синий зелёный жёлтый чёрный белый есть пить спать говорить слышать "
        "видеть думать улица город море птица собака кошка лошадь рыба жизнь рука голова время гора река щука хорошо"
    ),
    "hi": (
        "नमस्ते धन्यवाद कृपया हाँ नहीं पानी रोटी दूध घर दरवाज़ा खिड़की मेज़ कुर्सी किताब बच्चा पिता माता भाई बहन "
        "दोस्त दिन रात सप्ताह महीना साल सूरज चाँद बारिश हवा बड़ा छोटा अच्छा बुरा नया पुराना सुंदर लाल नीला हरा पीला "
        "काला सफ़ेद खाना पीना सोना बोलना सुनना देखना सोचना सड़क शहर समुद्र कुत्ता बिल्ली घोड़ा मछली जीवन हाथ सिर समय "
        "पहाड़ नदी एक दो तीन चार पाँच"
    ),
    "ja": (
        "おはよう ありがとう ください はい いいえ みず ごはん うし いえ まど つくえ いす ほん がっこう こども ちち "
        "はは あに いもうと ともだち ひる よる しゅう つき とし たいよう あめ かぜ ゆき おおきい ちいさい よい わるい "
        "あたらしい ふるい きれい あかい あおい みどり きいろ くろい しろい たべる のむ ねる はなす きく みる "
        "かんがえる みち まち うみ とり いぬ ねこ うま さかな いのち あたま じかん やま かわ さん よん ろく なな "
        "りょこう きょう"
    ),
    "ar": (
        "صباح شكرا نعم لا ماء خبز حليب جبن بيت باب شباك طاولة كرسي كتاب مدرسة ولد أب أم أخ أخت صديق يوم ليل أسبوع شهر "
        "سنة شمس قمر مطر ريح ثلج كبير صغير جيد سيئ جديد قديم جميل أحمر أزرق أخضر أصفر أسود أبيض أكل شرب نوم كلام سمع "
        "نظر فكر شارع مدينة بحر طائر كلب قطة حصان سمك حياة يد رأس وقت جبل نهر واحد ثلاثة"
    ),
    "ca": (
        "bon dia gràcies si us plau no aigua pa llet formatge casa porta finestra taula cadira llibre escola nen pare "
        "mare germà germana amic nit setmana mes any sol lluna pluja vent neu gran petit bo dolent nou vell bonic "
        "vermell blau verd groc negre blanc menjar beure dormir parlar escoltar veure pensar carrer ciutat mar ocell "
        "gos gat cavall peix vida cap temps muntanya riu dos tres quatre cinc jutge jove caixa platja cançó"
    ),
    "ro": (
        "bună ziua mulțumesc te rog da nu apă pâine lapte brânză casă ușă fereastră masă scaun carte școală copil "
        "tată mamă frate soră prieten noapte săptămână lună an soare ploaie vânt zăpadă mare mic bun rău nou vechi "
        "frumos roșu albastru verde galben negru alb a mânca a bea a dormi a vorbi a auzi a vedea stradă oraș pasăre "
        "câine pisică cal pește viață mână cap timp munte râu joc gheață ger șase"
    ),
    "hu": (
        "jó napot köszönöm kérem igen nem víz kenyér tej sajt ház ajtó ablak asztal szék könyv iskola gyerek apa anya "
        "testvér barát nap éjszaka hét hónap év eső szél hó nagy kicsi rossz új öreg szép piros kék zöld sárga fekete "
        "fehér enni inni aludni beszélni hallani látni gondolni utca város tenger madár kutya macska ló hal élet kéz "
        "fej idő hegy folyó zsír rózsa csók tyúk három négy öt"
    ),
    "da": (
        "god morgen mange tak ja nej vand brød mælk ost hus dør vindue bord stol bog skole barn far mor bror søster "
        "ven dag nat uge måned år sol måne regn vind sne stor lille god dårlig ny gammel smuk rød blå grøn gul sort "
        "hvid spise drikke sove tale høre se tænke gade by hav fugl hund kat hest fisk liv hånd hoved tid bjerg kage "
        "dreng"
    ),
}
